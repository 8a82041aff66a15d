"""torch.compile for the decoder layers: one layer is compiled, all of them use it.

What surrounds attention is fused; attention itself stays as it is, since its documents differ from
row to row. Knows nothing of steps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch
from torch import nn

from corral.errors import SpecError

_COMPILERS = ("g++", "clang++")


def compile_layers(layers: Sequence[nn.Module], device: torch.device) -> None:
    """Compile each layer in place, at its first forward pass, for rows of any length.

    Raises SpecError where there is no compiler.
    """
    if device.type == "cpu" and cpp_compiler() is None:
        raise SpecError(
            "compile: no C++ compiler was found on this machine.",
            f"Install one ({' or '.join(_COMPILERS)}), name it in CXX, or leave compile out.",
        )
    for layer in layers:
        layer.compile(dynamic=True)


def cpp_compiler() -> str | None:
    """The path of the C++ compiler, or None."""
    named = os.environ.get("CXX")
    candidates = (named,) if named else _COMPILERS
    return next((path for name in candidates if (path := shutil.which(name))), None)
