"""The answers that one model writes at the same time: they join and leave between steps.

A step reads a piece of one prompt, then adds a token to every answer whose prompt is read. Runs in one
thread. Knows nothing of other models, of waiting requests or of who reads the answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from corral.generation.answers import Finish, Piece
from corral.generation.decoders.base import Decoder
from corral.generation.generating import Generation
from corral.generation.prefixes import CHUNK, Prefixes, Slot
from corral.generation.sampler import sample

# What a step made of one answer: what of it is certain since, or its error, which ends it.
Outputs: TypeAlias = "Sequence[Piece | Finish] | Exception"


class Batch:
    """Answers in the making, with the caches of those that ended."""

    def __init__(self, decoder: Decoder, *, kept: int = 0) -> None:
        """`kept`: how many ended answers' caches wait for their conversation's next turn."""
        self._decoder = decoder
        self._prefixes = Prefixes(decoder, limit=kept)
        self._slots: dict[Generation, Slot] = {}
        # Those whose prompt is not read to its end, next one first.
        self._reading: deque[Generation] = deque()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def reserved_bytes(self) -> int:
        """What the caches of the answers in the making will take at most."""
        return sum(self._decoder.cache_bytes(generation.longest) for generation in self._slots)

    @property
    def kept_bytes(self) -> int:
        """What the caches of ended answers take."""
        return self._prefixes.size_bytes

    @property
    def cache_bytes(self) -> int:
        """What all caches take now."""
        return self.kept_bytes + sum(slot.cache.size_bytes for slot in self._slots.values())

    def bytes_for(self, generation: Generation) -> int:
        """What the cache of an answer would take at most."""
        return self._decoder.cache_bytes(generation.longest)

    def drop_oldest(self) -> bool:
        """Free an ended answer's cache; False where there is none."""
        return self._prefixes.drop_oldest()

    def join(self, generation: Generation) -> None:
        """Write this answer, too, from the next step on."""
        slot = self._prefixes.take(
            generation.tokens, self._slots.values(), exactly=generation.is_reproducible
        )
        generation.cached_tokens = len(slot.tokens)
        self._slots[generation] = slot
        self._reading.append(generation)

    def leave(self, generation: Generation) -> None:
        """Stop writing an answer, or forget one that has ended; its cache is kept."""
        slot = self._slots.pop(generation, None)
        if slot is None:
            return
        if generation in self._reading:
            self._reading.remove(generation)
        self._prefixes.keep(slot)

    def step(self) -> list[tuple[Generation, Outputs]]:
        """One step; what it made of each answer that has something to show. Answers that finished or
        failed have left.
        """
        # Chosen before: a first token shall not wait for the second.
        writing = [generation for generation in self._slots if generation not in self._reading]
        results = self._read()
        if writing:
            results += self._write(writing)
        return results

    def _read(self) -> list[tuple[Generation, Outputs]]:
        """Read a piece of the prompt whose turn it is."""
        if not self._reading:
            return []
        generation = self._reading.popleft()
        slot = self._slots[generation]
        piece = generation.tokens[len(slot.tokens) : _end_of_piece(generation, slot)]
        try:
            logits = self._decoder.prefill(piece, slot.cache)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this answer's alone
            return [self._fail(generation, error)]
        slot.read(piece, as_chunk=True)
        if len(slot.tokens) < len(generation.tokens):
            self._reading.append(generation)
            return []
        return self._take(logits[None], [generation])

    def _write(self, writing: Sequence[Generation]) -> list[tuple[Generation, Outputs]]:
        """Add a token to each of the answers."""
        slots = [self._slots[generation] for generation in writing]
        tokens = [generation.tokens[-1] for generation in writing]
        try:
            logits = self._decoder.decode(tokens, [slot.cache for slot in slots])
        except Exception as error:  # noqa: BLE001 - computed together, failed together
            return [self._fail(generation, error) for generation in writing]
        for slot, token in zip(slots, tokens, strict=True):
            slot.read([token], as_chunk=False)
        return self._take(logits, writing)

    def _take(
        self, logits: Tensor, generations: Sequence[Generation]
    ) -> list[tuple[Generation, Outputs]]:
        with torch.inference_mode():
            drawn = sample(logits, [generation.row for generation in generations])
        results: list[tuple[Generation, Outputs]] = []
        for generation, token in zip(generations, drawn, strict=True):
            if isinstance(token, Exception):
                results.append(self._fail(generation, token))
                continue
            outputs = generation.take(token)
            if generation.finished:
                self.leave(generation)
            if outputs:
                results.append((generation, outputs))
        return results

    def _fail(self, generation: Generation, error: Exception) -> tuple[Generation, Outputs]:
        # Its cache may be half written: it is not kept.
        self._slots.pop(generation, None)
        generation.finished = True
        return generation, error


def _end_of_piece(generation: Generation, slot: Slot) -> int:
    """Where the next piece of a prompt ends: at a multiple of the chunk, wherever an earlier
    conversation's tokens end; or, where no bit depends on it, at the prompt's end if that is near.
    """
    begin, end = len(slot.tokens), len(generation.tokens)
    if not generation.is_reproducible and end - begin <= CHUNK:
        return end
    return (begin // CHUNK + 1) * CHUNK
