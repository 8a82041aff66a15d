"""What a data set makes of a spec: steps, tokens, and how much of them padding or packing would waste.

Works on how many rows there are of each length. Knows nothing of the model or the machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from corral.spec import TrainingSpec

# Enough micro-batches to know the mean of the longest of a few to within a percent.
_SAMPLES = 2000
# As corral.training.attention has it, which a test holds equal.
ATTENTION_BLOCK = 256


@dataclass(frozen=True)
class Workload:
    """The work of a whole run. Tokens are prompt and answer, cut to max_length."""

    rows: int
    held_out: int
    steps: int
    tokens: int
    # Share of `tokens` that is trained on.
    label_share: float
    mean_length: float
    longest: int
    # Keys that attention's weights are kept for, mean over the tokens: a document's queries are
    # computed in blocks, each against all keys up to its end.
    mean_keys: float
    # Of all tokens that a forward pass would hold, the share that is padding: in batches padded to
    # their longest row, and in rows of max_length filled first-fit decreasing.
    padding_waste: float
    packing_waste: float

    @property
    def tokens_per_step(self) -> float:
        """Mean over the run."""
        return self.tokens / max(1, self.steps)


def workload(spec: TrainingSpec, lengths: Mapping[int, int], label_tokens: int) -> Workload:
    """The work of `spec` on a data set.

    `lengths` counts rows by their tokens before cutting; `label_tokens` counts labels after.
    """
    cut: dict[int, int] = {}
    for length, count in lengths.items():
        cut[min(length, spec.max_length)] = cut.get(min(length, spec.max_length), 0) + count
    rows = sum(cut.values())
    total = sum(length * count for length, count in cut.items())
    held_out = held_out_rows(rows, spec.eval_split)
    trained = rows - held_out
    full = ceil(trained / spec.effective_batch_size) * spec.epochs
    steps = min(full, spec.max_steps or full)
    # A run that max_steps ends earlier sees as much less.
    share = trained / max(1, rows) * spec.epochs * (steps / max(1, full))
    return Workload(
        rows=rows,
        held_out=held_out,
        steps=steps,
        tokens=round(total * share),
        label_share=label_tokens / max(1, total),
        mean_length=total / max(1, rows),
        longest=max(cut, default=0),
        mean_keys=sum(_keys(length) * count for length, count in cut.items()) / max(1, total),
        padding_waste=_padding_waste(cut, spec.batch_size),
        packing_waste=_packing_waste(cut, spec.max_length),
    )


def _keys(length: int) -> int:
    """Pairs of queries and keys of a document whose attention is computed in blocks of queries."""
    starts = range(0, length, ATTENTION_BLOCK)
    return sum((end := min(at + ATTENTION_BLOCK, length)) * (end - at) for at in starts)


def held_out_rows(rows: int, eval_split: float) -> int:
    """Rows held out for evaluation: of a share above 0 at least one, and at least one is trained on."""
    return min(max(1, round(rows * eval_split)), rows - 1) if eval_split > 0 and rows else 0


def _sample(lengths: Mapping[int, int], count: int) -> list[int]:
    """Lengths drawn like the rows, the same ones each time."""
    # Not for secrets.
    return random.Random(0).choices(list(lengths), weights=list(lengths.values()), k=count)  # noqa: S311


def _padding_waste(lengths: Mapping[int, int], batch_size: int) -> float:
    if not lengths or batch_size == 1:
        return 0.0
    drawn = _sample(lengths, _SAMPLES * batch_size)
    batches = [drawn[at : at + batch_size] for at in range(0, len(drawn), batch_size)]
    return 1 - sum(drawn) / sum(max(batch) * len(batch) for batch in batches)


def _packing_waste(lengths: Mapping[int, int], room: int) -> float:
    """Of rows of `room` tokens, filled first-fit decreasing with a sample of the data."""
    if not lengths:
        return 0.0
    drawn = sorted(_sample(lengths, _SAMPLES), reverse=True)
    free: list[int] = []
    for length in drawn:
        for at, left in enumerate(free):
            if left >= length:
                free[at] -= length
                break
        else:
            free.append(room - length)
    return 1 - sum(drawn) / (room * len(free))
