"""AdamW on weights and moments in bf16, each rounded stochastically: 8 bytes a weight instead of 18.

bf16 has 8 bits of mantissa. An update of less than a 256th of its weight is rounded away, every time,
and so is the second moment's, which moves by a thousandth: training stalls. Rounding up with the
probability of what is cut off makes the mean right (Gupta et al. 2015), without further state. Knows
nothing of schedules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

# Elements that exist in float32 at a time.
_PIECE = 1 << 20
_CUT_BITS = 16


class StochasticAdamW(torch.optim.Optimizer):
    """torch.optim.AdamW for bf16, reproducible: the noise follows from the seed and the step."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        betas: tuple[float, float],
        eps: float,
        seed: int,
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._seed = seed

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. `closure` is part of torch's interface and not called."""
        noise: Tensor | None = None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["step"] += 1
                for moment in ("exp_avg", "exp_avg_sq"):
                    # A resumed run may have read them as float32, which holds the same values.
                    state[moment] = state[moment].to(parameter.dtype)
                step = int(state["step"])
                if noise is None:
                    noise = _noise(hash((self._seed, step)), parameter.device)
                tensors = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
                pieces = zip(
                    *(torch.split(_local(each).view(-1), _PIECE) for each in tensors), strict=True
                )
                for weight, grad, first, second in pieces:
                    _update(weight, grad, first, second, step, group, noise)


def _update(
    weight: Tensor,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    step: int,
    group: dict[str, Any],
    noise: Tensor,
) -> None:
    """AdamW's arithmetic in float32 on flat pieces, in place. noise: [3, _PIECE]."""
    beta1, beta2 = group["betas"]
    slope = grad.float()
    mean = first.float().lerp_(slope, 1 - beta1)
    square = second.float().mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
    scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
    exact = weight.float().mul_(1 - group["lr"] * group["weight_decay"])
    exact.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**step))
    for target, value, bits in zip(
        (weight, first, second), (exact, mean, square), noise, strict=True
    ):
        round_stochastically(target, value, bits[: len(value)])


def round_stochastically(target: Tensor, value: Tensor, noise: Tensor) -> None:
    """Write float32 into bf16: up or down with the probabilities that keep the mean.

    noise: int32, uniform from 0 to 65,535. `value` is spent.
    """
    # bf16 is the upper half of a float32; a carry out of the lower half rounds away from zero.
    bits = value.view(torch.int32).add_(noise).bitwise_and_(-1 << _CUT_BITS)
    target.copy_(bits.view(torch.float32))


def _noise(seed: int, device: torch.device) -> Tensor:
    """Bits for weights and both moments, used for one piece after the other: each rounding is right
    in the mean, whatever the others do.
    """
    generator = torch.Generator(device).manual_seed(seed % (1 << 63))
    return torch.randint(
        1 << _CUT_BITS, (3, _PIECE), generator=generator, device=device, dtype=torch.int32
    )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
