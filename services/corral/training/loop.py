"""The run, from run.json to the last checkpoint: steps, evaluations and saves in their order.

Knows nothing of how a step is made, what an evaluation asks or how a checkpoint is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from corral.checkpoints.manifest import Metrics
from corral.errors import TrainingDivergedError
from corral.planning.memory import Memory
from corral.run import (
    CheckpointWritten,
    EvaluationDone,
    EventWriter,
    RunEvent,
    Started,
    StepDone,
    TrainingRun,
    now,
)
from corral.spec import TrainingSpec
from corral.storage import storage_errors
from corral.training.divergence import Explosion
from corral.training.early_stopping import reason_to_stop
from corral.training.evaluation import evaluate
from corral.training.memory import memory_errors, planned_memory
from corral.training.model import parameter_count
from corral.training.parallel import Ranks
from corral.training.preparing import Prepared, prepare
from corral.training.state import RunState
from corral.training.step import StepResult, divergence, optimizer_step
from corral.volume import Volume


@dataclass(frozen=True)
class Pace:
    """When this attempt began, by `time.monotonic`, and at which step."""

    began: float
    first_step: int

    def time_left(self, step: int, total_steps: int) -> float:
        """Seconds to the last step at the mean pace so far, checkpoints included."""
        return (time.monotonic() - self.began) / (step - self.first_step) * (total_steps - step)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: finished, or stopped on request. `reason` says why it finished early."""

    finished: bool
    reason: str = ""


def run(
    run: TrainingRun, volume: Volume, ranks: Ranks, stop_requested: Callable[[], bool]
) -> RunEnd:
    """Train to the last step, until early stopping, or until `stop_requested` on any rank; all end
    with a checkpoint.

    Raises CorralError for what a user can mend; events up to then are written, the last complete
    checkpoint stays.
    """
    emit = _emitter(run, volume, ranks)
    with memory_errors("loading the model", run.spec, ranks.device):
        prepared = prepare(run, volume, ranks, emit)
    emit(_started(prepared, ranks))
    plan = partial(_planned_memory, prepared, ranks)
    try:
        with memory_errors("the training's steps", prepared.spec, ranks.device, plan):
            return _steps(prepared, ranks, emit, stop_requested)
    except TrainingDivergedError:
        # Every rank is here, at the same step, so the checkpoint under way can still be completed.
        for checkpoint in prepared.saver.finish():
            emit(checkpoint)
        raise


def _planned_memory(prepared: Prepared, ranks: Ranks) -> Memory:
    base, tokenizer = prepared.saver.identity.base, prepared.saver.tokenizer
    return planned_memory(prepared.spec, base, tokenizer.vocab_size, prepared.train, ranks.device)


def _steps(
    prepared: Prepared,
    ranks: Ranks,
    emit: Callable[[RunEvent], None],
    stop_requested: Callable[[], bool],
) -> RunEnd:
    state, total, spec = prepared.state, prepared.total_steps, prepared.spec
    newest: EvaluationDone | None = None
    pace = Pace(time.monotonic(), state.step)
    explosion = Explosion(prepared.saver.tokenizer.vocab_size)
    for plan in prepared.order.steps(state.cursor):
        if state.step >= total:
            break
        state = replace(state, step=state.step + 1, cursor=plan.after)
        result = optimizer_step(prepared, plan, state.step, ranks, stop_requested())
        if explosion.after(result.loss):
            what = f"The loss has exploded: at step {state.step} it is {result.loss:.4g}."
            raise divergence(what, prepared, plan, result.batch_losses)
        evaluated = None
        if _is_evaluation_due(spec, state.step, total):
            state, evaluated = _evaluate(prepared, state, ranks)
        newest = evaluated or newest
        done = _step_done(prepared, state, result, newest, pace)
        emit(done)
        if evaluated:
            emit(evaluated)
        reason = reason_to_stop(spec, state.best) if evaluated else ""
        is_last = state.step == total or bool(reason)
        written = prepared.saver.poll()
        ends = is_last or result.wants_stop
        if ends or state.step % spec.checkpoint_every == 0:
            written += _save(prepared, state, done, evaluated, is_last=is_last, ends=ends)
        for checkpoint in written:
            emit(checkpoint)
        if reason or result.wants_stop:
            return RunEnd(is_last, reason)
    return RunEnd(finished=True)


def _is_evaluation_due(spec: TrainingSpec, step: int, total_steps: int) -> bool:
    """By the step alone: a run that is stopped and resumed makes the same evaluations."""
    return step == total_steps or step % (spec.eval_every or spec.checkpoint_every) == 0


def _evaluate(prepared: Prepared, state: RunState, ranks: Ranks) -> tuple[RunState, EvaluationDone]:
    """An evaluation, and the state that remembers it if it is the best so far."""
    evaluated = evaluate(prepared, state.step, ranks)
    metric = prepared.spec.best_by
    if metric is None:
        return state, evaluated
    best = state.best.after(metric, getattr(evaluated, metric), state.step)
    is_best = best.step == state.step
    return replace(state, best=best), evaluated.model_copy(update={"is_best": is_best})


def _step_done(
    prepared: Prepared,
    state: RunState,
    result: StepResult,
    newest: EvaluationDone | None,
    pace: Pace,
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
        eval_loss=newest and newest.eval_loss,
        stop_rate=newest and newest.stop_rate,
        repetition_rate=newest and newest.repetition_rate,
        answer_tokens=newest and newest.answer_tokens,
    )


def _save(
    prepared: Prepared,
    state: RunState,
    done: StepDone,
    evaluated: EvaluationDone | None,
    *,
    is_last: bool,
    ends: bool,
) -> list[CheckpointWritten]:
    """Begin a checkpoint, and wait for it where the run `ends`."""
    metrics = Metrics(
        loss=done.loss,
        epoch=done.epoch,
        eval_loss=evaluated and evaluated.eval_loss,
        perplexity=evaluated and evaluated.perplexity,
        stop_rate=evaluated and evaluated.stop_rate,
        repetition_rate=evaluated and evaluated.repetition_rate,
    )
    total_steps = state.step if is_last else prepared.total_steps
    return prepared.saver.save(
        prepared.model, prepared.optimizer, state, total_steps, metrics, wait_for_it=ends
    )


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
    writer = EventWriter(volume.run(run.job_id, run.attempt).events)

    def emit(event: RunEvent) -> None:
        with storage_errors("the run's events"):
            writer.write(event)

    return emit
