"""Which examples make up which optimizer step: a pure function of seed, sizes and cursor.

The order of an epoch depends on the seed and the epoch alone, so a run resumed at another world size
goes on in the same order, with no example seen twice or missed. A step never crosses an epoch, and
always takes the next `effective_batch_size` examples: packing only decides which of them share a
forward pass. Knows nothing of tensors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from corral.data.packing import Packing


@dataclass(frozen=True)
class Cursor:
    """How much of the data is done: whole epochs, and examples of the one that is under way."""

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True)
class StepPlan:
    """One optimizer step.

    `micro_batches` are all forward passes of the step over all ranks, in order, as indices into
    the examples; rank r of w takes those whose number is r modulo w. `after` is the cursor once the
    step is done.
    """

    micro_batches: tuple[tuple[int, ...], ...]
    after: Cursor

    def of_rank(self, rank: int, world_size: int) -> list[tuple[int, tuple[int, ...]]]:
        """This rank's micro-batches with their numbers within the step.

        Every rank gets equally many, since each one is a collective; the last may be empty.
        """
        rounds = ceil(len(self.micro_batches) / world_size)
        numbers = [turn * world_size + rank for turn in range(rounds)]
        return [
            (number, self.micro_batches[number] if number < len(self.micro_batches) else ())
            for number in numbers
        ]


@dataclass(frozen=True)
class DataOrder:
    """The steps of a run over `examples` examples for `epochs` epochs; without `packing` each
    forward pass takes `batch_size` of them.
    """

    examples: int
    epochs: int
    batch_size: int
    effective_batch_size: int
    seed: int
    packing: Packing | None = None

    def steps_left(self, cursor: Cursor) -> int:
        """Optimizer steps from the cursor to the end of the last epoch."""
        if cursor.epoch >= self.epochs:
            return 0
        per_epoch = ceil(self.examples / self.effective_batch_size)
        in_this = ceil((self.examples - cursor.position) / self.effective_batch_size)
        return in_this + (self.epochs - cursor.epoch - 1) * per_epoch

    def steps(self, cursor: Cursor) -> Iterator[StepPlan]:
        """The steps from the cursor on."""
        while cursor.epoch < self.epochs:
            order = self._epoch_order(cursor.epoch)
            while cursor.position < self.examples:
                end = min(cursor.position + self.effective_batch_size, self.examples)
                indices = order[cursor.position : end]
                cursor = Cursor(cursor.epoch, end)
                after = Cursor(cursor.epoch + 1) if end == self.examples else cursor
                yield StepPlan(self._micro_batches(indices), after)
            cursor = Cursor(cursor.epoch + 1)

    def progress(self, cursor: Cursor) -> float:
        """Epochs done, as a fraction: 1.5 is half-way through the second."""
        return cursor.epoch + cursor.position / self.examples

    def _micro_batches(self, indices: list[int]) -> tuple[tuple[int, ...], ...]:
        if self.packing is None:
            return split_evenly(indices, self.batch_size)
        return self.packing.packs(indices)

    def _epoch_order(self, epoch: int) -> list[int]:
        order = list(range(self.examples))
        # Not for secrets: the same seed has to give the same order.
        random.Random(f"{self.seed}/{epoch}").shuffle(order)  # noqa: S311
        return order


def split_evenly(indices: list[int], size: int) -> tuple[tuple[int, ...], ...]:
    """Pieces of `size`, the last one perhaps shorter."""
    return tuple(tuple(indices[at : at + size]) for at in range(0, len(indices), size))
