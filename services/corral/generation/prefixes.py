"""Caches of conversations that may go on: a prompt that begins as an earlier one did, reads only what is
new.

Belongs to one loaded model, so weights never meet keys and values that others computed. Knows nothing
of requests beyond their tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from corral.generation.decoders.base import Cache, Decoder

# Prompts are read in pieces that end at multiples of this, so that a long one stalls others only
# briefly: 64 tokens take as long as two to three steps of writing.
CHUNK = 64
# A shorter common beginning is read again: to copy it costs about as much.
WORTH_COPYING = 16


@dataclass
class Slot:
    """A cache, and the tokens it holds."""

    cache: Cache
    tokens: list[int] = field(default_factory=list)
    # So many tokens from the beginning were read in whole chunks. Read so again they would give the
    # same bits; tokens that were written, or read in other pieces, would differ by rounding.
    exact: int = 0

    def read(self, tokens: Sequence[int], *, as_chunk: bool) -> None:
        """Note tokens that the cache holds now, in one piece of a prompt or one by one."""
        begin = len(self.tokens)
        self.tokens += tokens
        whole = as_chunk and begin % CHUNK == 0 and len(tokens) == CHUNK
        if whole and self.exact == begin:
            self.exact = len(self.tokens)

    def common(self, tokens: Sequence[int], *, exactly: bool) -> int:
        """How many of the tokens can be taken from here; at least one is left to be read, since its
        logits are needed. `exactly`: only what would be the same bits again.
        """
        length = min(_common_length(self.tokens, tokens), len(tokens) - 1)
        return min(length, self.exact) // CHUNK * CHUNK if exactly else length


class Prefixes:
    """The caches of answers that have ended, the longest unused first."""

    def __init__(self, decoder: Decoder, *, limit: int) -> None:
        """`limit`: how many are kept."""
        self._decoder = decoder
        self._limit = limit
        self._kept: list[Slot] = []

    @property
    def size_bytes(self) -> int:
        return sum(slot.cache.size_bytes for slot in self._kept)

    def take(self, prompt: Sequence[int], active: Iterable[Slot], *, exactly: bool) -> Slot:
        """A slot that holds as much of the prompt's beginning as any that is kept or active.

        What is kept is handed over where most of it is of use, as in a conversation's next turn, and
        copied where only its beginning is, as with a template's preamble.
        """
        candidates = [*self._kept, *active]
        lengths = [slot.common(prompt, exactly=exactly) for slot in candidates]
        at = max(range(len(lengths)), key=lengths.__getitem__, default=None)
        if at is None or lengths[at] < WORTH_COPYING:
            return Slot(self._decoder.new_cache())
        best, length = candidates[at], lengths[at]
        if at < len(self._kept) and length * 2 >= len(best.tokens):
            del self._kept[at]
            cache = best.cache
            length = cache.truncate(length)
        else:
            cache = best.cache.fork(length)
            length = cache.length
        return Slot(cache, best.tokens[:length], min(best.exact, length))

    def keep(self, slot: Slot) -> None:
        """Keep the cache of an answer that has ended."""
        if self._limit and slot.tokens:
            self._kept.append(slot)
            del self._kept[: -self._limit]

    def drop_oldest(self) -> bool:
        """Free the cache that was unused for longest; False where none is kept."""
        if self._kept:
            del self._kept[0]
            return True
        return False


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
