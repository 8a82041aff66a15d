"""The run, from run.json to the last checkpoint. Read this file first.

One optimizer step is: the forward and backward passes of this rank's micro-batches, gradients summed
over ranks and clipped, one update. The loss is the mean over all label tokens of the step, so that
world size, batch size and accumulation change the speed and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from corral.checkpoints.manifest import Metrics
from corral.errors import TrainingDivergedError
from corral.run import CheckpointWritten, EventWriter, RunEvent, Started, StepDone, TrainingRun, now
from corral.training import parallel
from corral.training.batches import label_count, make_batch
from corral.training.evaluation import held_out_loss
from corral.training.model import parameter_count
from corral.training.optimizer import learning_rate, set_learning_rate
from corral.training.order import StepPlan
from corral.training.parallel import Ranks
from corral.training.preparing import Prepared, prepare
from corral.training.state import RunState
from corral.volume import Volume


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


@dataclass(frozen=True)
class Pace:
    """When this attempt began, by `time.monotonic`, and at which step."""

    began: float
    first_step: int

    def time_left(self, step: int, total_steps: int) -> float:
        """Seconds to the last step at the mean pace so far, checkpoints included."""
        return (time.monotonic() - self.began) / (step - self.first_step) * (total_steps - step)


def run(run: TrainingRun, volume: Volume, ranks: Ranks, stop_requested: Callable[[], bool]) -> bool:
    """Train to the last step, or until `stop_requested` on any rank; both end with a checkpoint.

    Returns whether the last step was reached. Raises CorralError for what a user can mend; events
    up to then are written, the last complete checkpoint stays.
    """
    emit = _emitter(run, volume, ranks)
    prepared = prepare(run, volume, ranks)
    emit(_started(prepared, ranks))
    return _steps(prepared, ranks, emit, stop_requested)


def _steps(
    prepared: Prepared,
    ranks: Ranks,
    emit: Callable[[RunEvent], None],
    stop_requested: Callable[[], bool],
) -> bool:
    state, total = prepared.state, prepared.total_steps
    pace = Pace(time.monotonic(), state.step)
    for plan in prepared.order.steps(state.cursor):
        if state.step >= total:
            break
        state = RunState(state.step + 1, plan.after)
        result = optimizer_step(prepared, plan, state.step, ranks, stop_requested())
        is_due = state.step % prepared.spec.checkpoint_every == 0
        saves = result.wants_stop or is_due or state.step == total
        eval_loss = _evaluate(prepared, ranks) if saves else None
        done = _step_done(prepared, state, result, eval_loss, pace)
        emit(done)
        if saves:
            emit(_save(prepared, state, done))
        if result.wants_stop:
            break
    return state.step >= total


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
    labels = sum(label_count(prepared.train[i]) for batch in plan.micro_batches for i in batch)
    mine = plan.of_rank(ranks.rank, ranks.world_size)
    summed, tokens = 0.0, 0
    for number, indices in mine:
        batch = make_batch([prepared.train[index] for index in indices], ranks.device)
        # Dropout depends on the step and the micro-batch, not on the rank or on what ran before:
        # so a resumed run, or another world size, draws the same masks.
        torch.manual_seed(hash((prepared.spec.seed, step, number)) & 0xFFFF_FFFF)
        with parallel.gradient_sync(prepared.loss, last=number == mine[-1][0]):
            with prepared.autocast():
                loss = prepared.loss(batch)
            (loss / max(1, labels)).backward()
        summed += float(loss.detach())
        tokens += batch.tokens if indices else 0
    parameters = [p for p in prepared.model.parameters() if p.requires_grad]
    parallel.sum_gradients(parameters, ranks)
    norm = parallel.clip_gradients(parameters, prepared.spec.max_grad_norm)
    summed, total_tokens, wants_stop = ranks.total(summed, tokens, float(stop))
    mean = summed / max(1, labels)
    if not (math.isfinite(mean) and math.isfinite(norm)):
        raise TrainingDivergedError(
            f"The loss of step {step} is {mean} and its gradient norm {norm}.",
            "Use a lower learning rate. The last complete checkpoint is kept.",
        )
    prepared.optimizer.step()
    prepared.optimizer.zero_grad(set_to_none=True)
    seconds = time.monotonic() - began
    return StepResult(mean, rate, norm, int(total_tokens), seconds, bool(wants_stop))


def _evaluate(prepared: Prepared, ranks: Ranks) -> float | None:
    if not any(label_count(example) for example in prepared.held_out):
        return None
    with prepared.autocast():
        return held_out_loss(prepared.loss, prepared.held_out, prepared.spec.batch_size, ranks)


def _step_done(
    prepared: Prepared, state: RunState, result: StepResult, eval_loss: float | None, pace: Pace
) -> StepDone:
    return StepDone(
        time=now(),
        step=state.step,
        total_steps=prepared.total_steps,
        epoch=prepared.order.progress(state.cursor),
        loss=result.loss,
        learning_rate=result.learning_rate,
        gradient_norm=result.gradient_norm,
        tokens_per_second=result.tokens / result.seconds,
        time_left=pace.time_left(state.step, prepared.total_steps),
        eval_loss=eval_loss,
    )


def _save(prepared: Prepared, state: RunState, done: StepDone) -> CheckpointWritten:
    metrics = Metrics(loss=done.loss, epoch=done.epoch, eval_loss=done.eval_loss)
    folder = prepared.saver.save(
        prepared.model, prepared.optimizer, state, prepared.total_steps, metrics
    )
    return CheckpointWritten(time=now(), step=state.step, folder=folder)


def _started(prepared: Prepared, ranks: Ranks) -> Started:
    return Started(
        time=now(),
        world_size=ranks.world_size,
        device=ranks.device.type,
        precision=str(prepared.dtype).removeprefix("torch."),
        parameters=parameter_count(prepared.model),
        examples=len(prepared.train),
        total_steps=prepared.total_steps,
        learning_rate=prepared.spec.learning_rate or 0.0,
        effective_batch_size=prepared.order.effective_batch_size,
        resumed_step=prepared.state.step,
    )


def _emitter(run: TrainingRun, volume: Volume, ranks: Ranks) -> Callable[[RunEvent], None]:
    """Where events go: the main rank's to events.jsonl, the others' nowhere."""
    if not ranks.is_main:
        return lambda event: None
    return EventWriter(volume.run(run.job_id, run.attempt).events).write
