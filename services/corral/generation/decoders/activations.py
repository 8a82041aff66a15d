"""Activation functions by the names that config.json gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional

from corral.generation.decoders.shape import UnknownVariantError


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Raises UnknownVariantError for one that is not known."""
    tanh = partial(functional.gelu, approximate="tanh")
    known: dict[str, Callable[[Tensor], Tensor]] = {
        "silu": functional.silu,
        "swish": functional.silu,
        "gelu": functional.gelu,
        "gelu_new": tanh,
        "gelu_pytorch_tanh": tanh,
        "relu": functional.relu,
    }
    if name not in known:
        raise UnknownVariantError(f"the activation is {name}")
    return known[name]
