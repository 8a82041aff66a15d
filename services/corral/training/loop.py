"""The run, from run.json to the last checkpoint. Read this file first.

One optimizer step is: the forward and backward passes of this rank's micro-batches, gradients summed
over ranks and clipped, one update. The loss is the mean over all label tokens of the step, so that
world size, batch size and accumulation change the speed and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from corral.bases import context_length, find_base
from corral.checkpoints.manifest import Metrics
from corral.data.examples import TokenizedExample, load_examples, split_examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.devices import compute_dtype
from corral.errors import DatasetError, SpecError, TrainingDivergedError
from corral.run import CheckpointWritten, EventWriter, RunEvent, Started, StepDone, TrainingRun, now
from corral.spec import TrainingSpec
from corral.training import parallel
from corral.training.batches import label_count, make_batch
from corral.training.evaluation import held_out_loss
from corral.training.model import LabelLoss, load_trainable, parameter_count
from corral.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from corral.training.order import DataOrder, StepPlan
from corral.training.parallel import Ranks
from corral.training.saving import Saver
from corral.training.state import RunState, load_state
from corral.volume import Volume


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first step."""

    spec: TrainingSpec
    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    state: RunState
    order: DataOrder
    total_steps: int
    train: list[TokenizedExample]
    held_out: list[TokenizedExample]
    saver: Saver
    autocast: Callable[[], AbstractContextManager[Any]]
    dtype: torch.dtype


@dataclass(frozen=True)
class StepResult:
    """Figures of one optimizer step over all ranks. `loss` is the mean over label tokens."""

    loss: float
    gradient_norm: float
    tokens: int
    wants_stop: bool


def run(
    run: TrainingRun, volume: Volume, ranks: Ranks, stop_requested: Callable[[], bool]
) -> bool:
    """Train to the last step, or until `stop_requested` on any rank; both end with a checkpoint.

    Returns whether the last step was reached. Raises CorralError for what a user can mend; events
    up to then are written, the last complete checkpoint stays.
    """
    emit = _emitter(run, volume, ranks)
    prepared = prepare(run, volume, ranks)
    emit(_started(prepared, ranks))
    return _steps(prepared, ranks, emit, stop_requested)


def prepare(run: TrainingRun, volume: Volume, ranks: Ranks) -> Prepared:
    """Load, fit, shard and, where the run goes on from a checkpoint, restore."""
    # One rank fetches or unpacks the base, the others then find it.
    if ranks.is_main:
        find_base(run.spec.model, volume)
    ranks.barrier()
    base = find_base(run.spec.model, volume)
    template = PromptTemplate.from_spec(run.spec, base)
    tokenizer = fit_tokenizer(base, template)
    train, held_out = _examples(run, volume, template, tokenizer, context_length(base))

    resume = volume.checkpoints(run.job_id) / run.resume_from if run.resume_from else None
    torch.manual_seed(run.spec.seed)
    model = load_trainable(resume or base, tokenizer.vocab_size).to(ranks.device)
    spec = run.spec.with_learning_rate_for(parameter_count(model))
    parameters = parameter_count(model)
    assert parameters > 0
    loss: nn.Module = LabelLoss(model)
    dtype = compute_dtype(spec.precision, ranks.device)
    if ranks.world_size > 1 and spec.fsdp == "full_shard":
        parallel.shard(model, spec.fsdp_wrap, dtype, loss)
    optimizer = make_optimizer(model, spec)
    state = load_state(resume, model, optimizer, ranks) if resume else RunState()
    order = DataOrder(
        len(train), spec.epochs, spec.batch_size, _effective_batch(spec, ranks), spec.seed
    )
    total = state.step + order.steps_left(state.cursor)
    completed = run.model_copy(update={"spec": spec})
    return Prepared(
        spec=spec,
        model=model,
        loss=loss,
        optimizer=optimizer,
        state=state,
        order=order,
        total_steps=min(total, spec.max_steps or total),
        train=train,
        held_out=held_out,
        saver=Saver(volume.checkpoints(run.job_id), completed, template, tokenizer, ranks),
        autocast=_autocast(loss, dtype, ranks),
        dtype=dtype,
    )


def _steps(
    prepared: Prepared,
    ranks: Ranks,
    emit: Callable[[RunEvent], None],
    stop_requested: Callable[[], bool],
) -> bool:
    state, spec, total = prepared.state, prepared.spec, prepared.total_steps
    began, first = time.monotonic(), prepared.state.step
    for plan in prepared.order.steps(state.cursor):
        if state.step >= total:
            break
        state = replace(state, step=state.step + 1, cursor=plan.after)
        rate = learning_rate(spec, state.step, total)
        set_learning_rate(prepared.optimizer, rate)
        step_began = time.monotonic()
        result = optimizer_step(prepared, plan, state.step, ranks, stop_requested())
        seconds = time.monotonic() - step_began
        saves = (
            result.wants_stop or state.step == total or state.step % spec.checkpoint_every == 0
        )
        eval_loss = _evaluate(prepared, ranks) if saves else None
        epoch = prepared.order.progress(state.cursor)
        emit(
            StepDone(
                time=now(),
                step=state.step,
                total_steps=total,
                epoch=epoch,
                loss=result.loss,
                learning_rate=rate,
                gradient_norm=result.gradient_norm,
                tokens_per_second=result.tokens / seconds,
                time_left=(time.monotonic() - began) / (state.step - first) * (total - state.step),
                eval_loss=eval_loss,
            )
        )
        if saves:
            metrics = Metrics(loss=result.loss, epoch=epoch, eval_loss=eval_loss)
            folder = prepared.saver.save(
                prepared.model, prepared.optimizer, state, total, metrics
            )
            emit(CheckpointWritten(time=now(), step=state.step, folder=folder))
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
    return StepResult(mean, norm, int(total_tokens), bool(wants_stop))


def _examples(
    run: TrainingRun,
    volume: Volume,
    template: PromptTemplate,
    tokenizer: FittedTokenizer,
    context: int,
) -> tuple[list[TokenizedExample], list[TokenizedExample]]:
    if run.spec.max_length > context:
        raise SpecError(
            f"max_length: {run.spec.max_length} is more than the {context} tokens of this model's context."
        )
    examples = load_examples(
        volume.dataset_rows(run.dataset_id), template, tokenizer, run.spec.max_length
    )
    train, held_out = split_examples(examples, run.spec.eval_split, run.spec.seed)
    if not any(label_count(example) for example in train):
        raise DatasetError("The data set leaves no token to train on.")
    return train, held_out


def _evaluate(prepared: Prepared, ranks: Ranks) -> float | None:
    if not any(label_count(example) for example in prepared.held_out):
        return None
    with prepared.autocast():
        return held_out_loss(prepared.loss, prepared.held_out, prepared.spec.batch_size, ranks)


def _effective_batch(spec: TrainingSpec, ranks: Ranks) -> int:
    return spec.batch_size * spec.gradient_accumulation_steps * ranks.world_size


def _autocast(
    loss: nn.Module, dtype: torch.dtype, ranks: Ranks
) -> Callable[[], AbstractContextManager[Any]]:
    """FSDP casts by itself; a single process, or unsharded ones, compute under autocast."""
    if isinstance(loss, parallel.FSDPModule) or dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(ranks.device.type, dtype)


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
        effective_batch_size=_effective_batch(prepared.spec, ranks),
        resumed_step=prepared.state.step,
    )


def _emitter(run: TrainingRun, volume: Volume, ranks: Ranks) -> Callable[[RunEvent], None]:
    """Where events go: the main rank's to events.jsonl, the others' nowhere."""
    if not ranks.is_main:
        return lambda event: None
    return EventWriter(volume.run(run.job_id, run.attempt).events).write
