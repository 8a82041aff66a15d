"""One optimizer step: the forward and backward passes of this rank's micro-batches, gradients summed
over ranks and clipped, one update.

The loss is the mean over all label tokens of the step, so that world size, batch size and accumulation
change the speed and nothing else. Knows nothing of evaluations, checkpoints or events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from corral.errors import TrainingDivergedError
from corral.training import parallel
from corral.training.batches import make_batch
from corral.training.divergence import diverged
from corral.training.optimizer import count_step, learning_rate, set_learning_rate
from corral.training.order import StepPlan
from corral.training.parallel import Ranks
from corral.training.preparing import Prepared


@dataclass(frozen=True)
class StepResult:
    """Figures of one optimizer step over all ranks. `loss` is the mean over label tokens,
    `gradient_norm` the norm before clipping.
    """

    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    wants_stop: bool
    # Summed over the labels of each micro-batch of the plan, in nats.
    batch_losses: tuple[float, ...] = ()


def optimizer_step(
    prepared: Prepared, plan: StepPlan, step: int, ranks: Ranks, stop: bool
) -> StepResult:
    """One update from all micro-batches of the plan. A collective.

    Raises TrainingDivergedError, with the weights unchanged, where loss or gradients are not
    finite.
    """
    began = time.monotonic()
    rate = learning_rate(prepared.spec, step, prepared.total_steps)
    set_learning_rate(prepared.optimizer, rate)
    # Every rank holds every example, so all know the divisor before the first backward pass.
    labels = sum(prepared.train.labels[i] for batch in plan.micro_batches for i in batch)
    mine = plan.of_rank(ranks.rank, ranks.world_size)
    losses, tokens = [0.0] * len(plan.micro_batches), 0
    for number, indices in mine:
        batch = make_batch([prepared.train[index] for index in indices], ranks.device)
        # Dropout depends on the step and the micro-batch, not on the rank or on what ran before:
        # so a resumed run, or another world size, draws the same masks.
        torch.manual_seed(hash((prepared.spec.seed, step, number)) & 0xFFFF_FFFF)
        with parallel.gradient_sync(prepared.loss, last=number == mine[-1][0]):
            loss = prepared.loss(batch)
            (loss / max(1, labels)).backward()
        if indices:
            losses[number] = float(loss.detach())
            tokens += batch.tokens
    parameters = [p for p in prepared.model.parameters() if p.requires_grad]
    parallel.sum_gradients(parameters, ranks)
    norm = parallel.clip_gradients(parameters, prepared.spec.max_grad_norm)
    total_tokens, wants_stop, *losses = ranks.total(tokens, float(stop), *losses)
    mean = sum(losses) / max(1, labels)
    if not (math.isfinite(mean) and math.isfinite(norm)):
        what = f"The loss of step {step} is {mean:.4g} and its gradient norm {norm:.4g}."
        raise divergence(what, prepared, plan, losses)
    _update(prepared, labels)
    seconds = time.monotonic() - began
    return StepResult(mean, rate, norm, int(total_tokens), seconds, bool(wants_stop), tuple(losses))


def _update(prepared: Prepared, labels: int) -> None:
    # Without a label there is nothing to learn; Adam's momentum alone would still move the weights.
    if labels:
        prepared.optimizer.step()
        if prepared.compute_copy:
            prepared.compute_copy.refresh()
    else:
        count_step(prepared.optimizer)
    prepared.optimizer.zero_grad(set_to_none=True)


def divergence(
    what: str, prepared: Prepared, plan: StepPlan, losses: Sequence[float]
) -> TrainingDivergedError:
    """The error for a step of that plan. `losses` are summed over each micro-batch's labels."""
    labels = [sum(prepared.train.labels[at] for at in batch) for batch in plan.micro_batches]
    means = [loss / max(1, count) for loss, count in zip(losses, labels, strict=True)]
    examples = len(prepared.train) + len(prepared.held_out)
    return diverged(what, plan.micro_batches, means, prepared.spec, prepared.dataset, examples)
