"""Matrices made ready for a processor: float32 or bfloat16 in oneDNN's own layout, or int8 or int4
weights with bfloat16 activations.

Every kernel here adds up a row's products in one order, whatever the number of rows: so a token's
logits are bit for bit the same alone and among others, which plain matrix products do not promise
(MKL's float32 one differs from one row to two). Knows nothing of layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from corral.generation.decoders.precision import Precision
from corral.generation.decoders.quantizing import GROUP, quantize_int4, quantize_int8
from corral.generation.decoders.shape import Affine

# Beyond so many columns oneDNN's float32 product splits its sums by the number of rows (seen at 1,040
# columns, not at 1,024): wider matrices are multiplied in blocks.
_FLOAT32_COLUMNS = 1024
# What the int4 kernel wants the rows of a matrix to be a multiple of.
_INT4_ROWS = 16


class Linear(Protocol):
    """`x`: [rows, inputs] in the precision's activations; gives [rows, outputs] in the same."""

    @property
    def size_bytes(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...


def make_linear(affine: Affine, precision: Precision, device: torch.device) -> Linear:
    """The matrix in that precision, or in bfloat16 where its size does not fit the kernel."""
    weight = affine.weight
    bias = None if affine.bias is None else affine.bias.to(device, precision.activations)
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return _Plain(weight.to(device, precision.activations), bias)
    outputs, inputs = weight.shape
    if precision is Precision.INT4 and inputs % GROUP == 0 and outputs % _INT4_ROWS == 0:
        return _Int4(*quantize_int4(weight), bias)
    if precision is Precision.INT8:
        return _Int8(*quantize_int8(weight), bias)
    return _packed(weight.to(precision.activations), bias)


@dataclass(frozen=True)
class _Plain:
    """As it is, for a GPU."""

    weight: Tensor
    bias: Tensor | None

    @property
    def size_bytes(self) -> int:
        return self.weight.numel() * self.weight.element_size()

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Packed:
    """Reordered into blocks by oneDNN: 2.5 times as fast on one row as functional.linear with bfloat16."""

    blocks: tuple[Tensor, ...]
    bias: Tensor | None
    size_bytes: int

    def __call__(self, x: Tensor) -> Tensor:
        return self._multiply(x, 0) if len(self.blocks) == 1 else self._in_blocks(x)

    def _in_blocks(self, x: Tensor) -> Tensor:
        parts = torch.split(x, _FLOAT32_COLUMNS, dim=1)
        total = self._multiply(parts[0].contiguous(), 0)
        for at, part in enumerate(parts[1:], 1):
            total += self._multiply(part.contiguous(), at)
        return total

    def _multiply(self, x: Tensor, at: int) -> Tensor:
        bias = self.bias if at == 0 else None
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.blocks[at], bias, "none", [], ""
        )
        return result


def _packed(weight: Tensor, bias: Tensor | None) -> _Packed:
    columns = _FLOAT32_COLUMNS if weight.dtype == torch.float32 else weight.shape[1]
    blocks = tuple(
        torch.ops.mkldnn._reorder_linear_weight(block.contiguous(), None)
        for block in torch.split(weight, columns, dim=1)
    )
    return _Packed(blocks, bias, weight.numel() * weight.element_size())


@dataclass(frozen=True)
class _Int8:
    """A scale for each row of the matrix."""

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    @property
    def size_bytes(self) -> int:
        return self.weight.numel() + 2 * self.scales.numel()

    def __call__(self, x: Tensor) -> Tensor:
        result = torch._weight_int8pack_mm(x, self.weight, self.scales)
        return result if self.bias is None else result.add_(self.bias)


@dataclass(frozen=True)
class _Int4:
    """A scale and a zero point for each group of columns in a row."""

    weight: Tensor
    scales_and_zeros: Tensor
    bias: Tensor | None

    @property
    def size_bytes(self) -> int:
        return self.weight.numel() + 2 * self.scales_and_zeros.numel()

    def __call__(self, x: Tensor) -> Tensor:
        result = torch._weight_int4pack_mm_for_cpu(x, self.weight, GROUP, self.scales_and_zeros)
        return result if self.bias is None else result.add_(self.bias)
