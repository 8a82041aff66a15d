"""What generation needs of a network: read some tokens, write one more to each of several answers.

Knows nothing of how either is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor


class Cache(Protocol):
    """What a decoder keeps of the tokens of one conversation: their keys and values."""

    @property
    def length(self) -> int:
        """How many tokens it holds."""

    @property
    def size_bytes(self) -> int: ...

    def truncate(self, length: int) -> int:
        """Forget the tokens behind the first `length`, or more of them where only that is possible;
        how many are left.
        """

    def fork(self, length: int) -> Cache:
        """Another cache with the first `length` tokens of this one, or fewer."""


class Decoder(Protocol):
    """A network on its device. Every cache that it is given must be one that it made."""

    @property
    def vocabulary(self) -> int:
        """Columns of its logits: the rows of its embedding."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights, however often it keeps them."""

    @property
    def can_quantize(self) -> bool:
        """Whether the same folder could be computed in another precision on this device."""

    @property
    def description(self) -> str:
        """How it computes, in a few words, for the log."""

    def new_cache(self) -> Cache: ...

    def cache_bytes(self, tokens: int) -> int:
        """Bytes of a cache that holds so many tokens."""

    def prefill(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        """Append tokens to a cache; the logits behind the last: [vocabulary] float32."""

    def decode(self, tokens: Sequence[int], caches: Sequence[Cache]) -> Tensor:
        """Append one token to each cache; the logits behind each: [caches, vocabulary] float32.

        A row's logits are the same, bit for bit, whatever the other rows are.
        """

    def distributions(self, tokens: Sequence[int], first: int) -> Iterator[Tensor]:
        """Log likelihoods, in nats, of every token in the places from number `first` (at least 1) on,
        given the tokens before: some places at a time, each [places, vocabulary] float32. Computed as
        an answer is: the tokens before `first` as `prefill` does, the others with `decode`'s weights.
        """

    def score(self, tokens: Sequence[int], first: int) -> Tensor:
        """What `distributions` says of the tokens themselves: [tokens - first] float32."""
