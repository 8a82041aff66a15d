"""Rotary positions (Su et al. 2021) as a config describes them, old spelling or new.

Known are the plain kind, linear scaling and Llama 3's. Knows nothing of layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from corral.generation.decoders.fields import Fields
from corral.generation.decoders.shape import Rope, UnknownVariantError

DEFAULT_BASE = 10_000.0


def read_rope(config: Fields, head_dim: int, layer_type: str | None = None) -> Rope:
    """The positions of all layers, or of a type of them where config.json tells types apart.

    Raises UnknownVariantError for a kind that is not known.
    """
    table = config.table("rope_parameters")
    if table is not None and layer_type is not None:
        table = table.table(layer_type) or table
    if table is None:
        # Before transformers 5 the base stood beside the scaling, not in it.
        table = config.table("rope_scaling") or Fields({})
    base = table.number("rope_theta", config.number("rope_theta", DEFAULT_BASE))
    if table.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0)) != 1.0:
        raise UnknownVariantError("only a part of each head is rotated")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    return Rope(_scaled(1.0 / base**exponents, table))


def plain_rope(base: float, head_dim: int) -> Rope:
    """Unscaled positions of a base."""
    return read_rope(Fields({"rope_theta": base}), head_dim)


def _scaled(frequencies: Tensor, table: Fields) -> Tensor:
    kind = table.word("rope_type", table.word("type", "default"))
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / table.number("factor", 1.0)
    if kind == "llama3":
        return _llama3(frequencies, table)
    raise UnknownVariantError(f"rope_type is {kind}")


def _llama3(frequencies: Tensor, table: Fields) -> Tensor:
    """Slow angles are stretched, fast ones kept, those between are blended: as transformers'
    `_compute_llama3_parameters` does it.
    """
    factor = table.number("factor", 8.0)
    low, high = table.number("low_freq_factor", 1.0), table.number("high_freq_factor", 4.0)
    trained = table.count("original_max_position_embeddings", 8192)
    turns = trained * frequencies / (2 * math.pi)
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - blend) * frequencies / factor + blend * frequencies
