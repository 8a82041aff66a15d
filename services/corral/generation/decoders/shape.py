"""What a network of the known families is made of: sizes, and each layer's weights by their roles.

Plain values between the reader of a family's files and the one decoder that computes them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


class UnknownVariantError(Exception):
    """A config that these decoders have no place for; transformers may compute it."""


@dataclass(frozen=True)
class Rope:
    """Rotary positions: radians that each pair of a head turns by a token, [head dim / 2] float32."""

    frequencies: Tensor


@dataclass(frozen=True)
class Shape:
    """Sizes and choices that all layers share."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    norm: Literal["rms", "layer"]
    epsilon: float
    activation: Callable[[Tensor], Tensor]
    # Whether the MLP's first half is a gate for its second.
    gated: bool
    # Queries are multiplied by it; 1 / sqrt(head dim) in most.
    query_scale: float
    # Gemma multiplies its embeddings by the root of the hidden size.
    embedding_scale: float = 1.0
    # Logits are kept within plus and minus this by tanh.
    logit_cap: float | None = None


@dataclass(frozen=True)
class Affine:
    """A matrix [outputs, inputs], and a bias [outputs]."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class Norm:
    """Of the shape's kind; the weight is what the normed values are multiplied by."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class LayerWeights:
    """One layer. Heads of queries, keys and values stand in this order in `qkv`."""

    attention_norm: Norm
    qkv: Affine
    attention_out: Affine
    mlp_norm: Norm
    # Gate above up where gated.
    mlp_in: Affine
    mlp_out: Affine
    # Of the heads of queries and keys: [heads + kv heads, head dim].
    head_norm: Tensor | None = None
    # Gemma 3 norms what a half layer adds, too.
    attention_out_norm: Norm | None = None
    mlp_out_norm: Norm | None = None
    rope: Rope | None = None
    # How many tokens back it sees, itself included; all where None.
    window: int | None = None


@dataclass(frozen=True)
class NetworkWeights:
    """All of a network, as its files hold it: any floating type, on the CPU."""

    shape: Shape
    embedding: Tensor
    # Learned positions, added to the embeddings: [context, hidden].
    positions: Tensor | None
    layers: tuple[LayerWeights, ...]
    final_norm: Norm
    # The embedding itself where tied.
    head: Affine
