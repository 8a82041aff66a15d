"""One layer of the decoder, its matrices ready to multiply.

Knows nothing of caches; attention is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from corral.generation.decoders.linear import Linear, make_linear
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.shape import Affine, LayerWeights, Norm, Shape

# [rows, hidden] float32 to the same, or to the precision's activations.
NormFunction: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """What `run` needs of a layer, and attention's own of it."""

    attention_norm: NormFunction
    qkv: Linear
    attention_out: Linear
    mlp_norm: NormFunction
    mlp_in: Linear
    mlp_out: Linear
    attention_out_norm: NormFunction | None
    mlp_out_norm: NormFunction | None
    activation: Callable[[Tensor], Tensor]
    gated: bool

    @property
    def size_bytes(self) -> int:
        """Of its matrices."""
        linears = (self.qkv, self.attention_out, self.mlp_in, self.mlp_out)
        return sum(linear.size_bytes for linear in linears)

    def attend(self, x: Tensor, attention: Callable[[Tensor], Tensor]) -> None:
        """Add to `x`, [rows, hidden] float32, what attention finds for it."""
        found = self.attention_out(attention(self.qkv(self.attention_norm(x))))
        x += found if self.attention_out_norm is None else self.attention_out_norm(found.float())

    def feed_forward(self, x: Tensor) -> None:
        """Add the MLP's output to `x`."""
        inner = self.mlp_in(self.mlp_norm(x))
        if self.gated:
            gate, up = inner.chunk(2, dim=-1)
            inner = self.activation(gate).mul_(up)
        else:
            inner = self.activation(inner)
        found = self.mlp_out(inner)
        x += found if self.mlp_out_norm is None else self.mlp_out_norm(found.float())


def make_layer(
    weights: LayerWeights, shape: Shape, precision: Precision, device: torch.device
) -> Layer:
    """The layer with its matrices in a precision."""

    def linear(affine: Affine) -> Linear:
        return make_linear(affine, precision, device)

    def norm(weights: Norm | None) -> NormFunction | None:
        return None if weights is None else make_norm(weights, shape, precision, device)

    def needed(weights: Norm) -> NormFunction:
        return make_norm(weights, shape, precision, device)

    return Layer(
        attention_norm=needed(weights.attention_norm),
        qkv=linear(weights.qkv),
        attention_out=linear(weights.attention_out),
        mlp_norm=needed(weights.mlp_norm),
        mlp_in=linear(weights.mlp_in),
        mlp_out=linear(weights.mlp_out),
        attention_out_norm=norm(weights.attention_out_norm),
        mlp_out_norm=norm(weights.mlp_out_norm),
        activation=shape.activation,
        gated=shape.gated,
    )


def make_norm(norm: Norm, shape: Shape, precision: Precision, device: torch.device) -> NormFunction:
    """RMSNorm or LayerNorm in float32, its result in the precision's activations."""
    weight = norm.weight.to(device)
    bias = None if norm.bias is None else norm.bias.to(device)
    size, dtype = (weight.shape[0],), precision.activations
    if shape.norm == "layer":
        return lambda x: functional.layer_norm(x, size, weight, bias, shape.epsilon).to(dtype)
    return lambda x: rms_norm(x, shape.epsilon).mul_(weight).to(dtype)


def rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """`x` over the root of the mean of its squares along the last dimension (Zhang and Sennrich
    2019). Half the time of torch's own on a CPU, which is made of six operations.
    """
    count = x.shape[-1]
    lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(count**-0.5)
    return x / torch.hypot(lengths, lengths.new_full((), epsilon**0.5))
