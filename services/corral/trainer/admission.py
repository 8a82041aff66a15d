"""What must hold before a job is queued: spec, data set, base model, template and every row.

A job that is refused here has cost a second; one that fails on a row after an hour has cost the
hour. Knows nothing of gRPC or the queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from corral import __version__
from corral.bases import check_architecture, context_length, find_tokenizer
from corral.data.prepared import prepared_folder
from corral.data.preparing import check_and_prepare
from corral.data.report import Report, TokenStats
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.data.vocabulary import check_frozen_embedding
from corral.errors import SpecError
from corral.planning.shapes import ModelShape, read_shape
from corral.spec import TrainingSpec, parse_spec
from corral.trainer.backends import Backends
from corral.trainer.datasets import DatasetStore
from corral.volume import Volume

# Raised when a report says more than it did, so that older remembered ones are made anew.
_REPORT_FORMAT = 2


@dataclass(frozen=True)
class Admitted:
    """A job that could be queued: its spec, complete, and what a plan is made from."""

    dataset_id: str
    spec: TrainingSpec
    tokens: TokenStats
    shape: ModelShape


class Admission:
    """Checks jobs against one volume."""

    def __init__(self, volume: Volume, datasets: DatasetStore, backends: Backends) -> None:
        self._volume = volume
        self._datasets = datasets
        self._backends = backends

    async def admit(self, dataset_id: str, fields: Mapping[str, Any]) -> Admitted:
        """The spec as it will be queued, or the first reason why not, as an error.

        Raises SpecError, BackendRefusedError, DatasetNotFoundError, DatasetError, TemplateError, ModelNotFoundError,
        ModelUnsupportedError, UnavailableError (the model hub).
        """
        spec = parse_spec(fields)
        self._backends.check(spec)
        dataset = await self._datasets.get(dataset_id)
        dataset.report.raise_if_unusable()
        return await asyncio.to_thread(self._check, dataset.id, spec, "max_length" in fields)

    async def check_rows(self, dataset_id: str, fields: Mapping[str, Any]) -> Report:
        """What `admit` would find in the rows; also of a data set that it would refuse.

        Raises like `admit`, but no DatasetError.
        """
        spec = parse_spec(fields)
        dataset = await self._datasets.get(dataset_id)
        return await asyncio.to_thread(self._read_rows, dataset.id, spec, "max_length" in fields)

    def _read_rows(self, dataset_id: str, spec: TrainingSpec, length_was_set: bool) -> Report:
        base = find_tokenizer(spec.model, self._volume)
        spec = _within_context(spec, context_length(base), length_was_set)
        tokenizer = fit_tokenizer(base, PromptTemplate.from_spec(spec, base))
        return self._report(dataset_id, spec, base, tokenizer)

    def _check(self, dataset_id: str, spec: TrainingSpec, length_was_set: bool) -> Admitted:
        spec = _by_whole_path(spec)
        base = find_tokenizer(spec.model, self._volume)
        check_architecture(base)
        spec = _within_context(spec, context_length(base), length_was_set)
        template = PromptTemplate.from_spec(spec, base)
        tokenizer = fit_tokenizer(base, template)
        if spec.tuning == "lora":
            check_frozen_embedding(template, tokenizer)
        report = self._report(dataset_id, spec, base, tokenizer)
        report.raise_if_unusable()
        assert report.tokens is not None, "a report that was made for training counts tokens"
        return Admitted(
            dataset_id, spec, report.tokens, read_shape(base).with_vocabulary(tokenizer.vocab_size)
        )

    def _report(
        self, dataset_id: str, spec: TrainingSpec, base: Path, tokenizer: FittedTokenizer
    ) -> Report:
        """What checking says, remembered beside the rows: checking many takes minutes. So do the
        tokens that it counts, which the run is going to need.
        """
        template = PromptTemplate.from_spec(spec, base)
        key = (
            f"{__version__} {_REPORT_FORMAT} {template.sha256} {tokenizer.sha256} {spec.max_length}"
        )
        name = f"checked-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        remembered = self._volume.dataset(dataset_id) / name
        try:
            return Report.model_validate_json(remembered.read_bytes())
        except (FileNotFoundError, ValidationError):
            pass
        folder = prepared_folder(
            remembered.parent, template.sha256, tokenizer.sha256, spec.max_length
        )
        rows = self._volume.dataset_rows(dataset_id)
        report = check_and_prepare(rows, folder, template, tokenizer, spec.max_length)
        # Only to save time: a full volume, or a data set that is just being removed, is no reason
        # to refuse.
        with suppress(OSError):
            temporary = remembered.with_suffix(f".{secrets.token_hex(4)}.tmp")
            temporary.write_text(report.model_dump_json(), encoding="utf-8")
            temporary.replace(remembered)
        return report


def _by_whole_path(spec: TrainingSpec) -> TrainingSpec:
    """A folder that is named from here is recorded so that a run elsewhere finds the same one."""
    if not spec.model.startswith(("./", "../", "~")):
        return spec
    return spec.model_copy(update={"model": str(Path(spec.model).expanduser().resolve())})


def _within_context(spec: TrainingSpec, context: int, length_was_set: bool) -> TrainingSpec:
    """The spec with a default max_length lowered to the model's context; one that was asked for is
    refused instead.
    """
    if spec.max_length <= context:
        return spec
    if length_was_set:
        raise SpecError(
            f"max_length: {spec.max_length} is more than the {context} tokens of {spec.model}.",
            f"Set it to {context} or less, or leave it out.",
        )
    return spec.model_copy(update={"max_length": context})
