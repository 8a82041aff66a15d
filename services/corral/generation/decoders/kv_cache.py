"""The keys and values of one conversation, in one contiguous tensor that grows with it.

Knows nothing of attention, or of which conversation it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The first tokens are given room at once; from there it doubles, so that a cache is copied only a few
# times and never holds more than twice what it needs.
FIRST_CAPACITY = 128


class KVCache:
    """Keys and values: [layers, 2, kv heads, capacity, head dim], of which `length` are filled."""

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        *,
        limit: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.length = 0
        self._limit = limit
        self._tensor = torch.empty((layers, 2, kv_heads, 0, head_dim), dtype=dtype, device=device)

    @property
    def size_bytes(self) -> int:
        """Bytes that are allocated, filled or not."""
        return self._tensor.numel() * self._tensor.element_size()

    def append(self, count: int) -> Tensor:
        """Make room for `count` more tokens, which the caller fills; the whole tensor."""
        self.length += count
        assert self.length <= self._limit, "an answer ends at the end of the context"
        if self.length > self._tensor.shape[3]:
            self._grow(capacity_for(self.length, self._limit))
        return self._tensor

    def truncate(self, length: int) -> int:
        """Forget the tokens behind the first `length`; how many are left."""
        self.length = min(length, self.length)
        return self.length

    def fork(self, length: int) -> KVCache:
        """Another cache with a copy of the first `length` tokens of this one."""
        layers, _, heads, _, dim = self._tensor.shape
        fork = KVCache(
            layers,
            heads,
            dim,
            limit=self._limit,
            dtype=self._tensor.dtype,
            device=self._tensor.device,
        )
        if length:
            fork.append(length)[:, :, :, :length] = self._tensor[:, :, :, :length]
        return fork

    def _grow(self, capacity: int) -> None:
        layers, two, heads, filled, dim = self._tensor.shape
        grown = self._tensor.new_empty((layers, two, heads, capacity, dim))
        grown[:, :, :, :filled] = self._tensor
        self._tensor = grown


def capacity_for(length: int, limit: int) -> int:
    """Tokens that a cache of so many gets room for."""
    capacity = FIRST_CAPACITY
    while capacity < length:
        capacity *= 2
    return min(capacity, limit)
