"""precisions.json on the volume: which precision was measured for which weights, so that a restart need
not measure again.

Beside no model's own files: a checkpoint's folder holds what its manifest names and nothing else, and
a base model's may be the user's. Losing the file costs seconds of measuring, so whatever is wrong with
it, and a volume that can't be written, is passed over. Knows nothing of how it is measured.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from corral import __version__


class MeasuredPrecision(BaseModel):
    """`changes`: percent by which each precision that was tried changes perplexity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: str
    changes: dict[str, float]


class _Entry(MeasuredPrecision):
    # Of the weights' files, names with sizes and times; and what computed.
    weights: list[tuple[str, int, int]]
    computed_by: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, _Entry] = {}


class PrecisionRecord:
    """What was measured by earlier processes on this volume. Used by one thread at a time; of two
    processes that write at once one's entry is lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, folder: Path, computed_by: str) -> MeasuredPrecision | None:
        """What was measured for just these weights by just this library and processor."""
        entry = self._read().models.get(str(folder))
        if entry is None or entry.weights != _weights_of(folder):
            return None
        return entry if entry.computed_by == _signed(computed_by) else None

    def add(self, folder: Path, computed_by: str, measured: MeasuredPrecision) -> None:
        """Keep it; forget what was measured for folders that are gone."""
        entry = _Entry(
            **measured.model_dump(), weights=_weights_of(folder), computed_by=_signed(computed_by)
        )
        kept = {name: old for name, old in self._read().models.items() if Path(name).is_dir()}
        text = _File(models={**kept, str(folder): entry}).model_dump_json(indent=1)
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self._path)

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return _File()


def _signed(computed_by: str) -> str:
    return f"corral {__version__}, {computed_by}"


def _weights_of(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(folder.glob("*.safetensors"))
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
