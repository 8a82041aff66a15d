"""Everything a run needs before its first step: model, data, optimizer, and where to go on from.

Knows nothing of how a step is made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from corral.bases import context_length, find_base
from corral.data.examples import TokenizedExample, load_examples, split_examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.devices import compute_dtype
from corral.errors import DatasetError, SpecError
from corral.run import TrainingRun
from corral.spec import TrainingSpec
from corral.training import parallel
from corral.training.batches import label_count
from corral.training.model import LabelLoss, load_trainable, parameter_count
from corral.training.optimizer import make_optimizer
from corral.training.order import DataOrder
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
    loss: nn.Module = LabelLoss(model)
    # Also where nothing is sharded: a name that is wrong should not wait for a second process.
    parallel.layers_of(model, spec.fsdp_wrap)
    dtype = compute_dtype(spec.precision, ranks.device)
    if ranks.world_size > 1 and spec.fsdp == "full_shard":
        parallel.shard(model, spec.fsdp_wrap, dtype, loss)
    optimizer = make_optimizer(model, spec)
    state = load_state(resume, model, optimizer, ranks) if resume else RunState()
    order = DataOrder(
        len(train),
        spec.epochs,
        spec.batch_size,
        spec.batch_size * spec.gradient_accumulation_steps * ranks.world_size,
        spec.seed,
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


def _autocast(
    loss: nn.Module, dtype: torch.dtype, ranks: Ranks
) -> Callable[[], AbstractContextManager[Any]]:
    """FSDP casts by itself; a single process, or unsharded ones, compute under autocast."""
    if isinstance(loss, FSDPModule) or dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(ranks.device.type, dtype)
