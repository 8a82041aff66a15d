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
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.generation.choosing import Choice
    from corral.generation.loading import LoadedModel
    from corral.generation.sharing import Parts, SharedBases

_log = structlog.stdlib.get_logger(__name__)


class ModelLoader:
    """`load` and `improve` may run in two threads at once. Imports torch when it is first used."""

    def __init__(self, precision: str, volume: Volume) -> None:
        self._precision = precision
        self._volume = volume
        # By folder, which never changes once it is published. A restart measures again.
        self._choices: dict[Path, Choice] = {}

    def load(self, folder: Path) -> LoadedModel:
        """Raises as `corral.generation.loading.load_model` does."""
        from corral.generation.loading import load_model

        model = load_model(
            folder, precision=self._precision_of(folder), open_weights=self._bases.open
        )
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
        from corral.generation.choosing import choose_precision
        from corral.generation.loading import load_model
        from corral.generation.probes import probe_answers

        is_open = self._precision == "auto" and folder not in self._choices
        answers = probe_answers(model) if is_open and model.decoder.can_quantize else []
        if not answers:
            return None
        choice = choose_precision(folder, answers)
        self._choices[folder] = choice
        _log.info("precision measured", folder=str(folder), chosen=str(choice))
        if choice.precision is model.precision:
            return None
        return load_model(folder, precision=choice.precision, open_weights=self._bases.open)

    @cached_property
    def _bases(self) -> SharedBases:
        from corral.generation.sharing import SharedBases

        return SharedBases(partial(find_base, volume=self._volume, download=False))

    def _precision_of(self, folder: Path) -> str:
        choice = self._choices.get(folder)
        return self._precision if choice is None else choice.precision
