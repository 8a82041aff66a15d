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
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from corral import __version__
from corral.bases import check_architecture, context_length, find_tokenizer
from corral.data.checking import check_for_training
from corral.data.report import Report
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.errors import SpecError
from corral.spec import TrainingSpec, parse_spec
from corral.trainer.datasets import DatasetStore
from corral.volume import Volume


class Admission:
    """Checks jobs against one volume."""

    def __init__(self, volume: Volume, datasets: DatasetStore) -> None:
        self._volume = volume
        self._datasets = datasets

    async def admit(self, dataset_id: str, fields: Mapping[str, Any]) -> TrainingSpec:
        """The spec as it will be queued, or the first reason why not, as an error.

        Raises SpecError, DatasetNotFoundError, DatasetError, TemplateError, ModelNotFoundError,
        ModelUnsupportedError, UnavailableError (the model hub).
        """
        spec = parse_spec(fields)
        dataset = await self._datasets.get(dataset_id)
        dataset.report.raise_if_unusable()
        return await asyncio.to_thread(self._check, dataset.id, spec, "max_length" in fields)

    def _check(self, dataset_id: str, spec: TrainingSpec, length_was_set: bool) -> TrainingSpec:
        spec = _by_whole_path(spec)
        base = find_tokenizer(spec.model, self._volume)
        check_architecture(base)
        spec = _within_context(spec, context_length(base), length_was_set)
        self._report(dataset_id, spec, base).raise_if_unusable()
        return spec

    def _report(self, dataset_id: str, spec: TrainingSpec, base: Path) -> Report:
        """What check_for_training says, remembered beside the rows: checking many takes minutes."""
        template = PromptTemplate.from_spec(spec, base)
        tokenizer = fit_tokenizer(base, template)
        key = f"{__version__} {template.sha256} {tokenizer.sha256} {spec.max_length}"
        name = f"checked-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        remembered = self._volume.dataset(dataset_id) / name
        try:
            return Report.model_validate_json(remembered.read_bytes())
        except (FileNotFoundError, ValidationError):
            pass
        with self._volume.dataset_rows(dataset_id).open("rb") as stream:
            report = check_for_training(stream, template, tokenizer, spec.max_length)
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
