"""What this machine's processors can do. Part of the tensor half: imports torch.

Knows nothing of models or runs.
"""

from __future__ import annotations

import torch

from corral.errors import SpecError


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed natively, not emulated at a loss of speed."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Emulated bf16 on a CPU without these instructions is slower than fp32.
        cpu = torch.backends.cpu.get_cpu_capability()
        return bool(cpu == "AVX512" and torch.cpu._is_avx512_bf16_supported())
    return device.type == "mps"


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type to compute in for "auto", "bf16", "bf16-pure" or "fp32".

    Raises SpecError for bf16 on a GPU that lacks it.
    """
    if precision == "fp32":
        return torch.float32
    is_asked = precision in ("bf16", "bf16-pure")
    if is_asked and device.type == "cuda" and not supports_bf16(device):
        raise SpecError(
            f"precision: {precision} is not supported by {torch.cuda.get_device_name(device)}.",
            "Use precision auto or fp32.",
        )
    return torch.bfloat16 if is_asked or supports_bf16(device) else torch.float32
