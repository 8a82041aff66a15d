"""Packing: which examples of one optimizer step share a forward pass.

First-fit decreasing (Johnson, 1973: at most 11/9 of the fewest packs possible, and a bit) finds how
many forward passes the step needs; the examples are then spread over that many so that all hold
about equally many tokens, since ranks wait for the one with most. Packing decides who sits beside
whom and nothing else: the step's examples stay the same, and so does its loss.

Knows nothing of tokens' values, of tensors or of how documents in one pass are kept apart.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd, lcm

from corral.spec import TrainingSpec

# Up to four processes pack alike; see `Packing.from_spec`.
_ALIKE_UP_TO = 4

Packs = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Packing:
    """How the steps of a run are packed. `lengths` are tokens of each example of the run."""

    lengths: Sequence[int]
    # Tokens that one forward pass holds at most; an example that is longer gets one of its own.
    capacity: int
    # The forward passes of a step are a multiple of this, where there are examples enough.
    multiple: int = 1

    @classmethod
    def from_spec(cls, spec: TrainingSpec, lengths: Sequence[int], world_size: int) -> Packing:
        """A pass holds as many tokens as `batch_size` examples of `max_length` would, so packing
        never needs more memory than the user's batches at their longest.

        Each rank gets equally many passes. Where gradients are accumulated, 1, 2 and 4 ranks
        moreover make the same packs of the same step, and with them draw the same dropout.
        """
        micro_batches = spec.gradient_accumulation_steps * world_size
        multiple = lcm(world_size, gcd(micro_batches, _ALIKE_UP_TO))
        return cls(lengths, spec.max_length * spec.batch_size, multiple)

    def packs(self, indices: Sequence[int]) -> Packs:
        """The examples of a step in packs, fullest first, each in the step's order."""
        lengths = [self.lengths[index] for index in indices]
        chosen = balanced(lengths, self.capacity, self.multiple)
        return tuple(tuple(indices[at] for at in pack) for pack in chosen)


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> Packs:
    """Packs of positions in `lengths`: longest first, each into the first pack with room for it.

    O(n log n): a tree over the packs knows the most room below each of its nodes.
    """
    room = _Room(len(lengths), capacity)
    packs: list[list[int]] = []
    for at in _longest_first(lengths):
        pack = room.take_first(lengths[at])
        if pack >= len(packs):
            packs.append([])
        packs[pack].append(at)
    return _ordered(packs, lengths)


def balanced(lengths: Sequence[int], capacity: int, multiple: int = 1) -> Packs:
    """As many packs as first-fit decreasing needs, rounded up to a multiple, equally full.

    Longest first, each into the emptiest pack (Graham, 1969). Where that overflows a pack, the packs
    are so full that first-fit decreasing's are as good as equal.
    """
    tight = first_fit_decreasing(lengths, capacity)
    count = min(len(lengths), -(-len(tight) // multiple) * multiple)
    packs: list[list[int]] = [[] for _ in range(count)]
    fullness = [(0, pack) for pack in range(count)]
    for at in _longest_first(lengths):
        tokens, pack = fullness[0]
        if packs[pack] and tokens + lengths[at] > capacity:
            return tight
        packs[pack].append(at)
        heapq.heapreplace(fullness, (tokens + lengths[at], pack))
    return _ordered(packs, lengths)


def _longest_first(lengths: Sequence[int]) -> list[int]:
    # Stable: examples of one length keep their order, so the plan is the same on every machine.
    return sorted(range(len(lengths)), key=lambda at: -lengths[at])


def _ordered(packs: Iterable[list[int]], lengths: Sequence[int]) -> Packs:
    """Fullest pack first, so that packs of about one size are computed at a time over all ranks."""
    whole = [tuple(sorted(pack)) for pack in packs]
    return tuple(sorted(whole, key=lambda pack: -sum(lengths[at] for at in pack)))


class _Room:
    """The room left in packs that are opened in order: a binary tree of maxima in one list."""

    def __init__(self, packs: int, capacity: int) -> None:
        self._leaves = 1 << max(0, packs - 1).bit_length()
        self._most = [capacity] * (2 * self._leaves)
        self._capacity = capacity

    def take_first(self, length: int) -> int:
        """Take room from the first pack that has enough of it; returns the pack's number."""
        # Too long for any pack: a whole one is taken for it.
        length = min(length, self._capacity)
        most, node = self._most, 1
        while node < self._leaves:
            node *= 2
            if most[node] < length:
                node += 1
        pack = node - self._leaves
        most[node] -= length
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
        return pack
