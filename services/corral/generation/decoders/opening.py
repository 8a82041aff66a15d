"""The decoder for a folder: one of ours where its architecture and config are known, else
transformers'.

Knows nothing of tokenizers, templates or manifests.
"""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from corral.bases import check_architecture
from corral.bases.architecture import read_config
from corral.generation.decoders import gpt2, llama
from corral.generation.decoders.base import Decoder
from corral.generation.decoders.fields import Fields
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.shape import NetworkWeights, UnknownVariantError
from corral.generation.decoders.tensor_folder import TensorFolder
from corral.generation.decoders.torch_decoder import TorchDecoder

_log = structlog.stdlib.get_logger(__name__)
_FAMILIES = (llama, gpt2)


def open_decoder(folder: Path, precision: Precision, device: torch.device) -> Decoder:
    """Map the folder's weights and make them ready to compute with.

    Raises ModelUnsupportedError where its architecture is not on the list, or its weights are
    incomplete, unreadable or do not fit its config.json.
    """
    try:
        with TensorFolder(folder) as tensors:
            return TorchDecoder(read_network(folder, tensors), precision, device)
    except UnknownVariantError as variant:
        from corral.generation.decoders.transformers_decoder import TransformersDecoder

        _log.warning("answered by transformers, slower", folder=str(folder), because=str(variant))
        return TransformersDecoder.open(folder, precision, device)


def read_network(folder: Path, tensors: TensorFolder) -> NetworkWeights:
    """The folder's weights by their roles, still unread.

    Raises UnknownVariantError for what only transformers may compute, ModelUnsupportedError for what
    nobody can.
    """
    architecture = check_architecture(folder)
    config = Fields(read_config(folder))
    for family in _FAMILIES:
        if architecture in family.ARCHITECTURES:
            weights: NetworkWeights = family.read_network(architecture, config, tensors)
            _check_leftovers(tensors)
            return weights
    raise UnknownVariantError(f"the architecture is {architecture}")


def _check_leftovers(tensors: TensorFolder) -> None:
    """Weights that nobody has asked for do something that the decoder does not."""
    ignored = ("rotary_emb.inv_freq",)
    left = sorted(name for name in tensors.names if not name.endswith(ignored))
    if left:
        raise UnknownVariantError(f"{len(left)} tensors have no place, {left[0]} for one")
