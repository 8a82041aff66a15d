"""Weights that several models share: checkpoints that were trained by LoRA on the same base use one copy
of it, each with its own small adapter.

Whether a base is the one that a checkpoint was trained on is told by the hash of its weights. Where it
is not there, or the adapter is of a kind that can't be added while computing, the checkpoint's own merged
weights are loaded. Knows nothing of which models are in memory, or for how long.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

import structlog
import torch

from corral.checkpoints.manifest import MANIFEST_NAME, AdapterEntry, read_manifest, weights_hash
from corral.errors import CorralError
from corral.generation.decoders.adapters import read_adapters
from corral.generation.decoders.base import Decoder
from corral.generation.decoders.opening import open_decoder
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.shape import UnknownVariantError
from corral.generation.decoders.torch_decoder import TorchDecoder

_log = structlog.stdlib.get_logger(__name__)

# Bytes in memory by what they are of: the same key in two models is the same memory.
Parts: TypeAlias = Mapping[Hashable, int]


@dataclass(frozen=True)
class Opened:
    """A decoder, and what it keeps in memory."""

    decoder: Decoder
    parts: Parts


def open_alone(folder: Path, precision: Precision, device: torch.device) -> Opened:
    """The folder's own weights. Raises as `open_decoder` does."""
    decoder = open_decoder(folder, precision, device)
    return Opened(decoder, {(folder, precision): decoder.size_bytes})


@dataclass(frozen=True)
class _Adapter:
    folder: Path
    base: Path


class SharedBases:
    """Opens weights, each base once in each precision as long as somebody holds it.

    `find` gives a base model's folder by its name, and raises ModelNotFoundError. May be used by
    several threads; two that open the same base at the same moment get a copy each.
    """

    def __init__(self, find: Callable[[str], Path]) -> None:
        self._find = find
        self._decoders: WeakValueDictionary[tuple[Path, Precision], Decoder] = WeakValueDictionary()
        # By the files that were read, with their sizes and times.
        self._hashes: dict[tuple[object, ...], str] = {}

    def open(self, folder: Path, precision: Precision, device: torch.device) -> Opened:
        """Raises as `open_decoder` does."""
        adapter = self._adapter_of(folder)
        if adapter is None:
            return self._open_base(folder, precision, device)
        base = self._open_base(adapter.base, precision, device)
        try:
            decoder = _with_adapter(base.decoder, adapter)
        except UnknownVariantError as variant:
            _log.warning("adapter not shared", folder=str(folder), because=str(variant))
            return open_alone(folder, precision, device)
        own = decoder.size_bytes - base.decoder.size_bytes
        return Opened(decoder, {**base.parts, (folder, precision): own})

    def parts_of(
        self, folder: Path, precision: Precision, estimate: Callable[[Path], int]
    ) -> Parts:
        """What `open` will keep in memory; `estimate` says how much a whole folder's weights take."""
        adapter = self._adapter_of(folder)
        if adapter is None:
            return {(folder, precision): estimate(folder)}
        own = sum(file.stat().st_size for file in adapter.folder.glob("*.safetensors"))
        return {(adapter.base, precision): estimate(adapter.base), (folder, precision): own}

    def _open_base(self, folder: Path, precision: Precision, device: torch.device) -> Opened:
        decoder = self._decoders.get((folder, precision))
        if decoder is None:
            decoder = open_decoder(folder, precision, device)
            self._decoders[folder, precision] = decoder
        return Opened(decoder, {(folder, precision): decoder.size_bytes})

    def _adapter_of(self, folder: Path) -> _Adapter | None:
        """The checkpoint's adapter, where its base is here and has the weights it was trained on."""
        if not (folder / MANIFEST_NAME).exists():
            return None
        manifest = read_manifest(folder)
        if manifest.adapter is None:
            return None
        try:
            base = self._find(manifest.base_model)
            is_same = self._has_weights(base, manifest.adapter)
        except (CorralError, OSError) as error:
            _log.info("the adapter's base is not here", folder=str(folder), because=str(error))
            return None
        return _Adapter(folder / manifest.adapter.folder, base) if is_same else None

    def _has_weights(self, base: Path, entry: AdapterEntry) -> bool:
        files = sorted(base.glob("*.safetensors"))
        stats = [(file, file.stat()) for file in files]
        key = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
        if key not in self._hashes:
            self._hashes[key] = weights_hash(base)
        return self._hashes[key] == entry.base_sha256


def _with_adapter(base: Decoder, adapter: _Adapter) -> TorchDecoder:
    if not isinstance(base, TorchDecoder):
        raise UnknownVariantError("the base is computed by transformers")
    layers = read_adapters(adapter.folder, adapter.base, base.shape, base.layers)
    return base.adapted(layers)
