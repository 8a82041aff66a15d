"""How a folder comes into memory: at once in bfloat16, and, where the precision is "auto", again in the
fastest one that leaves it what it was, once that has been measured beside the answers.

Measuring takes some seconds, loading less than one: nobody waits for the first. Knows nothing of which
models are loaded.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from corral.bases import find_base
from corral.checkpoints.manifest import MANIFEST_NAME, read_manifest
from corral.inference.precision_record import MeasuredPrecision, PrecisionRecord
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.data.tokenizing import Encoded
    from corral.generation.decoders.base import Decoder
    from corral.generation.decoders.precision import Precision
    from corral.generation.loading import LoadedModel
    from corral.generation.shared_tokenizers import SharedTokenizers
    from corral.generation.sharing import Parts, SharedBases

_log = structlog.stdlib.get_logger(__name__)


class ModelLoader:
    """`load` and `improve` may run in two threads at once. Imports torch when it is first used."""

    def __init__(self, precision: str, volume: Volume) -> None:
        self._precision = precision
        self._volume = volume
        self._record = PrecisionRecord(volume.precisions)
        # By folder, which never changes once it is published. None where it can't be measured.
        self._chosen: dict[Path, str | None] = {}

    def load(self, folder: Path) -> LoadedModel:
        """Raises as `corral.generation.loading.load_model` does."""
        model = self._load_in(folder, self._precision_of(folder))
        _log.info("weights are ready", folder=str(folder), computing=model.decoder.description)
        return model

    def estimate(self, folder: Path) -> Parts:
        """Bytes that `load` will take, by what they are of."""
        from corral.generation.loading import estimate_bytes, resolve_precision

        precision = self._precision_of(folder)
        return self._bases.parts_of(
            folder, resolve_precision(precision), partial(estimate_bytes, precision=precision)
        )

    def improve(self, folder: Path, model: LoadedModel) -> LoadedModel | None:
        """The same weights in the precision that a measurement chooses; None where that is what the
        model has already.
        """
        is_open = self._precision == "auto" and folder not in self._chosen
        if not (is_open and model.decoder.can_quantize):
            return None
        chosen = self._chosen[folder] = self._measure(folder, model)
        if chosen is None or chosen == model.precision:
            return None
        return self._load_in(folder, chosen)

    def _load_in(self, folder: Path, precision: str) -> LoadedModel:
        from corral.generation.loading import load_model

        return load_model(
            folder,
            precision=precision,
            open_weights=self._bases.open,
            open_tokenizer=self._tokenizers.open,
        )

    def _measure(self, folder: Path, model: LoadedModel) -> str | None:
        from corral.generation.choosing import choose_precision
        from corral.generation.loading import inference_device

        answers = self._answers(folder, model)
        if not answers:
            _log.info(
                "precision not measured: its data set is not on the volume",
                folder=str(folder),
                kept=str(model.precision),
            )
            return None

        def open_in(precision: Precision) -> Decoder:
            return self._bases.open(folder, precision, inference_device()).decoder

        choice = choose_precision(open_in, answers)
        labels = sum(map(sum, (answer.trained for answer in answers)))
        _log.info(
            "precision measured", folder=str(folder), answer_tokens=labels, chosen=str(choice)
        )
        changes = {str(kind): change for kind, change in choice.changes.items()}
        measured = MeasuredPrecision(precision=choice.precision, changes=changes)
        self._record.add(folder, _computed_by(), measured)
        return choice.precision

    def _answers(self, folder: Path, model: LoadedModel) -> list[Encoded]:
        """A checkpoint's own rows: questions of ours do not show what training taught it."""
        from corral.generation.probes import probe_answers, trained_answers

        if not (folder / MANIFEST_NAME).exists():
            return probe_answers(model)
        manifest = read_manifest(folder)
        rows = self._volume.dataset_rows(manifest.dataset_id)
        return trained_answers(model, rows, manifest.spec)

    @cached_property
    def _bases(self) -> SharedBases:
        from corral.generation.sharing import SharedBases

        return SharedBases(partial(find_base, volume=self._volume, download=False))

    @cached_property
    def _tokenizers(self) -> SharedTokenizers:
        from corral.generation.shared_tokenizers import SharedTokenizers

        return SharedTokenizers()

    def _precision_of(self, folder: Path) -> str:
        if self._precision != "auto":
            return self._precision
        if folder not in self._chosen:
            known = self._record.find(folder, _computed_by())
            if known is None:
                return self._precision
            self._chosen[folder] = known.precision
            _log.info("precision known", folder=str(folder), chosen=known.precision)
        return self._chosen[folder] or self._precision


def _computed_by() -> str:
    """What a measurement depends on beside the weights: the kernels."""
    import torch

    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
