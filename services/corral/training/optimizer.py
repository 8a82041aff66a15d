"""AdamW and the learning rate over a run. Knows nothing of data or ranks."""

from __future__ import annotations

from math import ceil, cos, pi

import torch
from torch import nn

from corral.spec import TrainingSpec
from corral.training.stochastic import StochasticAdamW

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def make_optimizer(model: nn.Module, spec: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with the field's usual betas, its moments at zero.

    Weight decay pulls on matrices only: biases and norm gains have no scale to overfit. Weights that
    are trained in bf16 themselves are rounded stochastically, see `StochasticAdamW`.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if any(parameter.dtype == torch.bfloat16 for parameter in parameters):
        optimizer = StochasticAdamW(groups, betas=_BETAS, eps=_EPSILON, seed=spec.seed)
    else:
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, eps=_EPSILON, fused=True)
    for parameter in parameters:
        # Made here and not at the first update, so that the state is whole at any time.
        optimizer.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def count_step(optimizer: torch.optim.Optimizer) -> None:
    """Count a step that changes nothing: Adam's step count is the run's."""
    for state in optimizer.state.values():
        state["step"] += 1


def learning_rate(spec: TrainingSpec, step: int, total_steps: int) -> float:
    """The rate of step `step` (from 1): a linear rise to the peak, then the spec's fall.

    The spec's rate must be filled in. The cosine and the linear fall reach zero one step after the
    last, so that the last step still learns.
    """
    peak = spec.learning_rate
    assert peak is not None, "the rate is filled in once the model's size is known"
    warmup = ceil(spec.warmup_ratio * total_steps)
    if step <= warmup:
        return peak * step / warmup
    if spec.lr_scheduler == "constant":
        return peak
    done = (step - 1 - warmup) / max(1, total_steps - warmup)
    return peak * (1 + cos(pi * done)) / 2 if spec.lr_scheduler == "cosine" else peak * (1 - done)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
