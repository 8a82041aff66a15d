"""LoRA adapters (Hu et al. 2021) beside a network that others use too: read from peft's files, and
computed as two thin matrices whose product is added to each layer's output.

Knows nothing of where the network's own weights come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from corral.bases import check_architecture
from corral.generation.decoders import gpt2, llama
from corral.generation.decoders.layers import Layer
from corral.generation.decoders.linear import Linear, make_linear
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.shape import Affine, Shape, UnknownVariantError

# What peft puts before the names of the model's own layers.
_PREFIX = "base_model.model."
# Of adapter_config.json: with any of these set, the sum is not the plain one.
_UNKNOWN_FIELDS = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")


@dataclass(frozen=True)
class LowRank:
    """`down`: [rank, inputs]; `up`: [outputs, rank], the adapter's scale in it."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class LayerAdapter:
    """What is added to a layer's matrices, by their names in `Layer`; None: nothing."""

    qkv: LowRank | None
    attention_out: LowRank | None
    mlp_in: LowRank | None
    mlp_out: LowRank | None


@dataclass(frozen=True)
class _Names:
    """Where a family has its layers, and which of its modules are one matrix of ours."""

    layers: str
    qkv: tuple[str, ...]
    attention_out: tuple[str, ...]
    mlp_in: tuple[str, ...]
    mlp_out: tuple[str, ...]


_LLAMA = _Names(
    layers="model.layers",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_out=("self_attn.o_proj",),
    mlp_in=("mlp.gate_proj", "mlp.up_proj"),
    mlp_out=("mlp.down_proj",),
)
_GPT2 = _Names(
    layers="transformer.h",
    qkv=("attn.c_attn",),
    attention_out=("attn.c_proj",),
    mlp_in=("mlp.c_fc",),
    mlp_out=("mlp.c_proj",),
)


@dataclass(frozen=True)
class _Adapted:
    """A matrix with an adapter's product added."""

    base: Linear
    down: Linear
    up: Linear

    @property
    def size_bytes(self) -> int:
        return self.base.size_bytes + self.down.size_bytes + self.up.size_bytes

    def __call__(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def read_adapters(folder: Path, base: Path, shape: Shape, layers: int) -> list[LayerAdapter]:
    """The adapter in `folder` for the model in `base`, an entry for each of its layers.

    Raises UnknownVariantError for what is no plain LoRA of those layers.
    """
    architecture = check_architecture(base)
    names = _LLAMA if architecture in llama.ARCHITECTURES else _GPT2
    if architecture not in llama.ARCHITECTURES | gpt2.ARCHITECTURES:
        raise UnknownVariantError(f"the architecture is {architecture}")
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UnknownVariantError(f"the adapter can't be read: {error}") from error
    reader = _Reader(tensors, _scale(config), shape)
    found = [reader.layer(f"{_PREFIX}{names.layers}.{at}", names) for at in range(layers)]
    if tensors:
        raise UnknownVariantError(f"the adapter's {min(tensors)} has no place")
    return found


def adapted_layer(
    layer: Layer, adapter: LayerAdapter, precision: Precision, device: torch.device
) -> Layer:
    """The layer with an adapter; its own matrices are the same tensors."""
    exact = Precision.FP32 if precision is Precision.FP32 else Precision.BF16
    changed: dict[str, Any] = {}
    for field in fields(adapter):
        low_rank: LowRank | None = getattr(adapter, field.name)
        if low_rank is not None:
            changed[field.name] = _Adapted(
                getattr(layer, field.name),
                make_linear(Affine(low_rank.down), exact, device),
                make_linear(Affine(low_rank.up), exact, device),
            )
    return replace(layer, **changed)


def _scale(config: dict[str, Any]) -> float:
    for field in _UNKNOWN_FIELDS:
        if config.get(field):
            raise UnknownVariantError(f"the adapter has {field}")
    if config.get("bias", "none") != "none":
        raise UnknownVariantError("the adapter has biases")
    rank = int(config["r"])
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


class _Reader:
    """Takes layers out of an adapter's tensors."""

    def __init__(self, tensors: dict[str, Tensor], scale: float, shape: Shape) -> None:
        self._tensors = tensors
        self._scale = scale
        self._shape = shape

    def layer(self, prefix: str, names: _Names) -> LayerAdapter:
        shape = self._shape
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        return LayerAdapter(
            qkv=self._fused(prefix, names.qkv, (wide, narrow, narrow)),
            attention_out=self._fused(prefix, names.attention_out),
            mlp_in=self._fused(prefix, names.mlp_in),
            mlp_out=self._fused(prefix, names.mlp_out),
        )

    def _fused(
        self, prefix: str, modules: Sequence[str], heights: Sequence[int] | None = None
    ) -> LowRank | None:
        """The adapters of modules that are one matrix: their own ranks stand beside each other.
        `heights`: rows of each module; where not given, all have the same.
        """
        pairs = [self._pair(f"{prefix}.{module}") for module in modules]
        there = [pair for pair in pairs if pair is not None]
        if not there:
            return None
        rows = heights or [there[0].up.shape[0]] * len(pairs)
        ups = [
            torch.zeros(height, 0) if pair is None else pair.up
            for pair, height in zip(pairs, rows, strict=False)
        ]
        up: Tensor = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
        return LowRank(torch.cat([pair.down for pair in there]), up)

    def _pair(self, module: str) -> LowRank | None:
        down = self._tensors.pop(f"{module}.lora_A.weight", None)
        up = self._tensors.pop(f"{module}.lora_B.weight", None)
        if down is None or up is None:
            return None
        return LowRank(down.float(), up.float() * self._scale)
