"""The number formats that a network's matrices can be kept in.

Knows nothing of which one is good enough for a model; `corral.generation.choosing` measures that.
"""

from __future__ import annotations

from enum import StrEnum

import torch


class Precision(StrEnum):
    """Of the weights. Activations are float32 for FP32, else bfloat16; sums are always float32."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def activations(self) -> torch.dtype:
        return torch.float32 if self is Precision.FP32 else torch.bfloat16

    @property
    def bytes_per_weight(self) -> float:
        """Scales and zero points of INT4's groups included."""
        return {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.625}[self.value]
