"""The fastest precision that leaves a model what it was: measured by the perplexity of answers.

Rounding hurts one model more than another: a base that was published in 4 bits loses nothing by them,
but what fine-tuning moved by less than a step is lost. So each checkpoint is measured, on answers like
those it was trained to give: the persona of examples/ranch_hand.jsonl is gone in int4, which answers
to general questions don't show. Knows nothing of when it is worth measuring, or where answers come
from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from corral.data.tokenizing import Encoded
from corral.generation.decoders.base import Decoder
from corral.generation.decoders.precision import Precision

# Percent by which perplexity may differ from float32's. Lower is no better: it is another model's.
TOLERANCE_PERCENT = 0.5
# In the order of their speed on a CPU with one answer at a time, see docs/inference.md.
FASTEST_FIRST = (Precision.INT4, Precision.INT8, Precision.BF16)

# The model's weights in a precision, as they would answer.
OpenIn: TypeAlias = Callable[[Precision], Decoder]


@dataclass(frozen=True)
class Choice:
    """The precision, and by how many percent each that was measured changes perplexity."""

    precision: Precision
    changes: Mapping[Precision, float]

    def __str__(self) -> str:
        measured = ", ".join(f"{kind} {change:+.2f} %" for kind, change in self.changes.items())
        return f"{self.precision} (perplexity against fp32: {measured})"


def choose_precision(open_in: OpenIn, answers: Sequence[Encoded]) -> Choice:
    """Measure, fastest first, until one is within the tolerance; fp32 where none is.

    `answers` are prompts with the answers, which alone are marked as trained, of a few hundred tokens
    altogether. Raises as `open_in` does.
    """
    exact = measured_nats(open_in(Precision.FP32), answers)
    changes: dict[Precision, float] = {}
    for kind in FASTEST_FIRST:
        changes[kind] = math.expm1(measured_nats(open_in(kind), answers) - exact) * 100
        if abs(changes[kind]) <= TOLERANCE_PERCENT:
            return Choice(kind, changes)
    return Choice(Precision.FP32, changes)


def measured_nats(decoder: Decoder, answers: Sequence[Encoded]) -> float:
    """Nats for each token of the answers, in the mean."""
    likelihoods = [
        decoder.score(answer.ids, first)[[at - first for at in labels]]
        for answer in answers
        if (labels := [at for at, trained in enumerate(answer.trained) if trained and at > 0])
        and (first := labels[0])
    ]
    return -float(torch.cat(likelihoods).double().mean())
