"""When a run no longer learns but explodes, and which rows of the data set were at it.

Knows nothing of how a step is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from corral.data.examples import held_out_rows
from corral.data.reading import read_rows
from corral.errors import TrainingDivergedError
from corral.spec import TrainingSpec

_HINT = "Look at these rows, or use a lower learning rate. The last complete checkpoint is kept."
_ROWS_NAMED = 8


class Explosion:
    """Notices a loss that is finite but lost: for `PATIENCE` steps in a row, worse by more than a nat
    than guessing every token with the same odds, and than at the attempt's first step.

    A single bad batch is no explosion, and neither is a model that begins badly.
    """

    PATIENCE = 3

    def __init__(self, vocabulary: int) -> None:
        self._limit = math.log(vocabulary) + 1.0
        self._is_first = True
        self._steps = 0

    def after(self, loss: float) -> bool:
        """Take a step's loss; whether the run has exploded."""
        if self._is_first:
            self._is_first = False
            self._limit = max(self._limit, loss + 1.0)
        self._steps = self._steps + 1 if loss > self._limit else 0
        return self._steps >= self.PATIENCE


def diverged(
    what: str,
    micro_batches: Sequence[Sequence[int]],
    losses: Sequence[float],
    spec: TrainingSpec,
    dataset: Path,
    examples: int,
) -> TrainingDivergedError:
    """The error for a step, with the rows of its worst micro-batch.

    `what` says what happened; `losses` are nats per label token of each micro-batch, whose numbers
    index the examples that are trained on; `examples` counts those that are held out too.
    """
    worst = max(range(len(losses)), key=lambda at: _badness(losses[at]))
    rows = _rows_of(micro_batches[worst], spec, examples)
    return TrainingDivergedError(
        f"{what} Its worst micro-batch, number {worst + 1} of {len(losses)}, has the loss"
        f" {losses[worst]:.4g}: {_places(rows, dataset)}.",
        _HINT,
    )


def _badness(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _rows_of(indices: Sequence[int], spec: TrainingSpec, examples: int) -> list[int]:
    """The data set's rows, from 0, behind examples that are trained on."""
    held_out = set(held_out_rows(examples, spec.eval_split, spec.seed))
    trained = [row for row in range(examples) if row not in held_out]
    return sorted(trained[index] for index in indices)


def _places(rows: Sequence[int], dataset: Path) -> str:
    named = set(rows[:_ROWS_NAMED])
    with dataset.open("rb") as stream:
        found = islice(read_rows(stream), max(named) + 1)
        lines = [f"line {row.line} (row {row.index})" for row in found if row.index in named]
    left = len(rows) - len(lines)
    return ", ".join(lines) + (f" and {left} more" if left else "")
