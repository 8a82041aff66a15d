"""What the model is worth as it trains: the loss on held-out examples, and how it answers questions.

Changes nothing: weights, random state and training mode are after it what they were before, so a run
with evaluations ends with the same weights as one without. Knows nothing of steps or checkpoints.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import ceil

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from corral.data.examples import TokenizedExample
from corral.data.tokenizing import FittedTokenizer
from corral.run import EvaluationDone, SampleAnswer, now
from corral.text_measures import ends_in_loop, pieces, repetition
from corral.training.answering import greedy_answers
from corral.training.batches import label_count, make_batch
from corral.training.order import split_evenly
from corral.training.parallel import Ranks
from corral.training.preparing import Prepared


def evaluate(prepared: Prepared, step: int, ranks: Ranks) -> EvaluationDone:
    """All figures after a step. A collective: every rank gets the same ones.

    The samples are the main rank's.
    """
    began = time.monotonic()
    spec = prepared.spec
    eval_loss = None
    if prepared.held_out:
        eval_loss = held_out_loss(prepared.loss, prepared.held_out, spec.batch_size, ranks)
    samples = _samples(prepared, ranks) if prepared.questions else ()
    return EvaluationDone(
        time=now(),
        step=step,
        eval_loss=eval_loss,
        perplexity=None if eval_loss is None else _exp(eval_loss),
        samples=samples,
        evaluation_seconds=time.monotonic() - began,
        **answer_figures(samples, ranks),
    )


@torch.no_grad()
def held_out_loss(
    loss: nn.Module, examples: Sequence[TokenizedExample], batch_size: int, ranks: Ranks
) -> float:
    """Mean over all label tokens of the examples, in nats. A collective: every rank gets it."""
    batches = split_evenly(list(range(len(examples))), batch_size)
    summed = 0.0
    with evaluation_mode(loss):
        # Every rank makes equally many forward passes: each one is a collective under FSDP.
        for turn in range(ceil(len(batches) / ranks.world_size)):
            number = turn * ranks.world_size + ranks.rank
            chosen = batches[number] if number < len(batches) else ()
            summed += float(loss(make_batch([examples[index] for index in chosen], ranks.device)))
    (total,) = ranks.total(summed)
    return total / sum(label_count(example) for example in examples)


def answer_figures(samples: Sequence[SampleAnswer], ranks: Ranks) -> dict[str, float]:
    """The figures of the main rank's answers, by their names in EvaluationDone; none without answers.
    A collective: what a run decides by them, all ranks have to decide alike.
    """
    count = len(samples)
    if not count:
        return {}
    share = 1 / count if ranks.is_main else 0.0
    stop_rate, repetition_rate, looping_rate, answer_tokens = ranks.total(
        share * sum(sample.stopped for sample in samples),
        share * math.fsum(sample.repetition for sample in samples),
        share * sum(sample.looping for sample in samples),
        share * sum(sample.tokens for sample in samples),
    )
    return {
        "stop_rate": stop_rate,
        "repetition_rate": repetition_rate,
        "looping_rate": looping_rate,
        "answer_tokens": answer_tokens,
    }


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Without dropout, and afterwards as it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
        # FSDP2 may leave weights gathered after a forward pass, the root's always, for the backward
        # pass that follows in training: a checkpoint would then find no shards of them.
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()


def _samples(prepared: Prepared, ranks: Ranks) -> tuple[SampleAnswer, ...]:
    tokenizer = prepared.saver.tokenizer
    # In a compiled model each new length of the cache would be compiled anew.
    eager = torch.compiler.set_stance("force_eager") if prepared.spec.compile else nullcontext()
    with eager, evaluation_mode(prepared.loss):
        answers = greedy_answers(
            prepared.loss,
            [question.ids for question in prepared.questions],
            max_tokens=prepared.spec.eval_max_tokens,
            end_id=tokenizer.end_token_id,
            ranks=ranks,
        )
    return tuple(
        _sample(question.text, answer, tokenizer)
        for question, answer in zip(prepared.questions, answers, strict=True)
    )


def _sample(prompt: str, ids: list[int], tokenizer: FittedTokenizer) -> SampleAnswer:
    stopped = ids[-1] == tokenizer.end_token_id
    answer = tokenizer.decode(ids)
    return SampleAnswer(
        prompt=prompt,
        answer=answer,
        tokens=len(ids),
        stopped=stopped,
        repetition=repetition(pieces(answer)),
        looping=ends_in_loop(answer, is_cut=not stopped),
    )


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
