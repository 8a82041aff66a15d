"""Everything a run needs before its first step: model, data, optimizer, and where to go on from.

Knows nothing of how a step is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from corral.bases import context_length, find_base
from corral.data.packing import Packing
from corral.data.prepared import Examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.data.vocabulary import check_frozen_embedding
from corral.devices import compute_dtype
from corral.errors import SpecError
from corral.run import RunEvent, TrainingRun
from corral.spec import TrainingSpec
from corral.training import parallel
from corral.training.checkpoint_files import Identity
from corral.training.compiling import compile_layers
from corral.training.data import load_examples
from corral.training.lora import load_with_adapters
from corral.training.model import LabelLoss, load_trainable, parameter_count
from corral.training.optimizer import make_optimizer
from corral.training.order import DataOrder
from corral.training.parallel import Ranks
from corral.training.precision import ComputeCopy
from corral.training.questions import Question, evaluation_questions
from corral.training.saving import Saver
from corral.training.state import RunState, load_state
from corral.volume import Volume


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first step."""

    spec: TrainingSpec
    model: nn.Module
    loss: LabelLoss
    optimizer: torch.optim.Optimizer
    state: RunState
    order: DataOrder
    total_steps: int
    train: Examples
    held_out: Examples
    # The file of rows that both come from.
    dataset: Path
    questions: tuple[Question, ...]
    saver: Saver
    # Where the forward pass has weights of its own, in a shorter type.
    compute_copy: ComputeCopy | None
    dtype: torch.dtype


def prepare(
    run: TrainingRun, volume: Volume, ranks: Ranks, emit: Callable[[RunEvent], None]
) -> Prepared:
    """Load, fit, shard and, where the run goes on from a checkpoint, restore."""
    # One rank fetches or unpacks the base, the others then find it.
    if ranks.is_main:
        find_base(run.spec.model, volume)
    ranks.barrier()
    base = find_base(run.spec.model, volume)
    template = PromptTemplate.from_spec(run.spec, base)
    tokenizer = fit_tokenizer(base, template)
    if run.spec.max_length > context_length(base):
        raise SpecError(
            f"max_length: {run.spec.max_length} is more than the {context_length(base)} tokens of "
            "this model's context."
        )
    train, held_out = load_examples(run, volume, ranks, template, tokenizer, emit)

    resume = volume.checkpoints(run.job_id) / run.resume_from if run.resume_from else None
    torch.manual_seed(run.spec.seed)
    dtype = compute_dtype(run.spec.precision, ranks.device)
    adapters: LoraConfig | None = None
    if run.spec.tuning == "lora":
        check_frozen_embedding(template, tokenizer)
        model, adapters = load_with_adapters(run.spec, base, tokenizer.vocab_size, dtype, resume)
    else:
        weights_dtype = dtype if run.spec.precision == "bf16-pure" else torch.float32
        model = load_trainable(resume or base, tokenizer.vocab_size, weights_dtype)
    model = model.to(ranks.device)
    spec = run.spec.with_learning_rate_for(parameter_count(model))
    loss, compute_copy = _forward_pass(model, spec, dtype, ranks)
    optimizer = make_optimizer(model, spec)
    state = load_state(resume, model, optimizer, ranks) if resume else RunState()
    order = DataOrder(
        len(train),
        spec.epochs,
        spec.batch_size,
        spec.batch_size * spec.gradient_accumulation_steps * ranks.world_size,
        spec.seed,
        Packing.from_spec(spec, train.lengths, ranks.world_size) if spec.packing else None,
    )
    total = state.step + order.steps_left(state.cursor)
    completed = run.model_copy(update={"spec": spec})
    identity = Identity(completed, template, tokenizer, base, adapters)
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
        dataset=volume.dataset_rows(run.dataset_id),
        questions=evaluation_questions(
            spec,
            volume.dataset_rows(run.dataset_id),
            rows=len(train) + len(held_out),
            template=template,
            tokenizer=tokenizer,
            context=context_length(base),
        ),
        saver=Saver(volume.checkpoints(run.job_id), identity, ranks),
        compute_copy=compute_copy,
        dtype=dtype,
    )


def _forward_pass(
    model: nn.Module, spec: TrainingSpec, dtype: torch.dtype, ranks: Ranks
) -> tuple[LabelLoss, ComputeCopy | None]:
    """The model's loss, computed in `dtype`: sharded, or by a copy of the weights in that type where
    they are whole on each process, or by the weights themselves.
    """
    if ranks.device.type == "cuda":
        # Whatever is still multiplied in float32 (TF32: ten bits of mantissa, on tensor cores).
        torch.set_float32_matmul_precision("high")
    is_sharded = ranks.world_size > 1 and spec.fsdp == "full_shard"
    needs_copy = not is_sharded and any(p.dtype != dtype for p in model.parameters())
    compute_copy = ComputeCopy(model, dtype) if needs_copy else None
    network: Any = compute_copy.module if compute_copy else model
    loss = LabelLoss(network)
    # Also where nothing is sharded: a name that is wrong should not wait for a second process.
    layers = parallel.layers_of(network, spec.fsdp_wrap)
    if spec.gradient_checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    if spec.compile:
        compile_layers(layers, ranks.device)
    if is_sharded:
        parallel.shard(model, spec.fsdp_wrap, dtype, loss)
    return loss, compute_copy
