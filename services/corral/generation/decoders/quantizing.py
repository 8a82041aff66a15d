"""Weights rounded to 8 or 4 bits, in the layouts that torch's CPU kernels read.

Knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns that share a scale and a zero point in int4, as in llama.cpp's 4-bit formats.
GROUP = 32
_LEVELS = 15
# The kernel takes numbers from 0 to 15 as distances from this.
_MIDDLE = 8


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric, by rows: int8 [outputs, inputs] and bfloat16 scales [outputs]."""
    weight = weight.float()
    scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).to(torch.bfloat16)
    # Divided by the scale as it is kept, rounded: the numbers then make up for its rounding.
    numbers = (weight / scales.float()[:, None]).round_().clamp_(-127, 127)
    return numbers.to(torch.int8).contiguous(), scales


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """From each group's least to its greatest weight in 15 steps: packed numbers, and bfloat16
    [groups, outputs, 2] scales and zero points.
    """
    groups = weight.float().reshape(len(weight), -1, GROUP)
    least, greatest = groups.aminmax(dim=2)
    scales = ((greatest - least) / _LEVELS).clamp_(min=1e-8).to(torch.bfloat16)
    zeros = (least + _MIDDLE * scales.float()).to(torch.bfloat16)
    steps = (groups - zeros.float()[..., None]) / scales.float()[..., None] + _MIDDLE
    numbers = steps.round_().clamp_(0, _LEVELS).to(torch.int32).flatten(1)
    packed = torch._convert_weight_to_int4pack_for_cpu(numbers, 1)
    return packed, torch.stack((scales, zeros), dim=2).transpose(0, 1).contiguous()
