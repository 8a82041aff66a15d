"""Attention over contiguous caches: many tokens of one conversation, or one token of each of many.

Every conversation is attended to on its own, over exactly its length: no padding, and nothing that
depends on who else is in the batch. On a CPU in float32: torch's bfloat16 attention is a third slower
there, at every length that was measured. Knows nothing of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from corral.generation.decoders.kv_cache import KVCache
from corral.generation.decoders.layers import rms_norm
from corral.generation.decoders.shape import Rope, Shape


@dataclass(frozen=True)
class Heads:
    """How attention reads a layer: the part of `LayerWeights` and `Shape` that it needs."""

    shape: Shape
    rope: Rope | None
    window: int | None
    # Of queries and keys, [heads + kv heads, head dim], on the device.
    norm: Tensor | None

    def first_seen(self, last: int) -> int:
        """The first position that the token at `last` sees."""
        return 0 if self.window is None else max(0, last + 1 - self.window)


class Rotation:
    """Turns queries and keys to their positions, and scales queries, in three operations for all
    heads at once: values are multiplied by 1 and turned by 0, which is cheaper than to part them.
    """

    def __init__(self, heads: Heads, positions: Tensor) -> None:
        """`positions`: [rows], on the device."""
        shape = heads.shape
        count = shape.heads + 2 * shape.kv_heads
        queries, keys = slice(shape.heads), slice(shape.heads, shape.heads + shape.kv_heads)
        if heads.rope is None:
            self._cos = torch.ones((1, count, 1), device=positions.device)
            self._cos[:, queries] = shape.query_scale
            self._sin = None
            return
        angles = torch.outer(positions.float(), heads.rope.frequencies)
        # As Hugging Face's weights want it: the two halves of a head are the pairs.
        cos, sin = angles.cos().repeat(1, 2)[:, None], angles.sin()[:, None]
        sin = torch.cat((-sin, sin), dim=-1)
        self._cos = torch.ones((len(positions), count, shape.head_dim), device=positions.device)
        self._cos[:, queries], self._cos[:, keys] = cos * shape.query_scale, cos
        self._sin = torch.zeros_like(self._cos)
        self._sin[:, queries], self._sin[:, keys] = sin * shape.query_scale, sin

    def __call__(self, heads: Tensor) -> Tensor:
        """`heads`: [rows, heads + 2 kv heads, head dim] float32."""
        turned = heads * self._cos
        if self._sin is None:
            return turned
        return turned.addcmul_(heads.roll(heads.shape[-1] // 2, -1), self._sin)


class Rotations:
    """The rotations of one step, one for each kind of layer."""

    def __init__(self, positions: Tensor) -> None:
        self._positions = positions
        self._made: dict[int, Rotation] = {}

    def of(self, heads: Heads) -> Rotation:
        key = id(heads.rope)
        if key not in self._made:
            self._made[key] = Rotation(heads, self._positions)
        return self._made[key]


class PrefillAttention:
    """Some tokens of one conversation, which see each other and those before them."""

    def __init__(self, cache: KVCache, count: int, device: torch.device) -> None:
        self._start, self._count = cache.length, count
        self._cached = cache.append(count)
        self._rows = torch.arange(self._start, self._start + count, device=device)
        self._rotations = Rotations(self._rows)
        self._masks: dict[int | None, Tensor] = {}

    def of(self, at: int, heads: Heads) -> Callable[[Tensor], Tensor]:
        """Attention of layer `at`: fused queries, keys and values to [rows, heads * head dim]."""
        return lambda qkv: self._attend(self._cached[at], heads, qkv)

    def _attend(self, cached: Tensor, heads: Heads, qkv: Tensor) -> Tensor:
        shape, end = heads.shape, self._start + self._count
        turned = _split_and_turn(qkv, heads, self._rotations, cached.dtype)
        queries, new = turned.split_with_sizes((shape.heads, 2 * shape.kv_heads), dim=1)
        cached[:, :, self._start : end] = new.reshape(
            self._count, 2, shape.kv_heads, shape.head_dim
        ).permute(1, 2, 0, 3)
        first = heads.first_seen(self._start)
        keys, values = cached[:, None, :, first:end]
        # Query heads of one key head stand below each other, as more rows of it: nothing is copied.
        rows = queries.transpose(0, 1).reshape(1, shape.kv_heads, -1, shape.head_dim)
        mask = self._mask(heads, first).repeat(shape.heads // shape.kv_heads, 1)
        found = functional.scaled_dot_product_attention(
            rows, keys, values, attn_mask=mask, scale=1.0
        )
        found = found.view(shape.heads, self._count, shape.head_dim).transpose(0, 1)
        return found.reshape(self._count, -1).to(qkv.dtype)

    def _mask(self, heads: Heads, first: int) -> Tensor:
        """0 where a row sees a column, minus infinity elsewhere: [count, columns]."""
        if heads.window not in self._masks:
            rows = self._rows[:, None]
            columns = torch.arange(first, self._start + self._count, device=rows.device)
            hidden = columns > rows
            if heads.window is not None:
                hidden |= columns <= rows - heads.window
            mask = torch.zeros(hidden.shape, dtype=self._cached.dtype, device=rows.device)
            self._masks[heads.window] = mask.masked_fill_(hidden, -torch.inf)
        return self._masks[heads.window]


class DecodeAttention:
    """One more token of each of some conversations."""

    def __init__(self, caches: Sequence[KVCache], device: torch.device) -> None:
        self._lasts = [cache.length for cache in caches]
        self._cached = [cache.append(1) for cache in caches]
        self._rotations = Rotations(torch.tensor(self._lasts, device=device))
        # Views by window, made for all layers at once: Python's part of a step is a fifth of it.
        self._views: dict[int | None, list[_Views]] = {}

    def of(self, at: int, heads: Heads) -> Callable[[Tensor], Tensor]:
        """Attention of layer `at`: fused queries, keys and values to [rows, heads * head dim]."""
        if heads.window not in self._views:
            self._views[heads.window] = [
                _Views.of(cached, heads.first_seen(last), last)
                for cached, last in zip(self._cached, self._lasts, strict=True)
            ]
        views = self._views[heads.window]
        return lambda qkv: self._attend(at, views, heads, qkv)

    def _attend(self, at: int, views: Sequence[_Views], heads: Heads, qkv: Tensor) -> Tensor:
        shape = heads.shape
        turned = _split_and_turn(qkv, heads, self._rotations, self._cached[0].dtype)
        queries, new = turned.split_with_sizes((shape.heads, 2 * shape.kv_heads), dim=1)
        queries = queries.reshape(len(views), shape.kv_heads, -1, shape.head_dim)
        new = new.reshape(len(views), 2, shape.kv_heads, shape.head_dim)
        found = torch.empty_like(queries)
        for view, query, own, out in zip(views, queries, new, found, strict=True):
            view.new[at].copy_(own)
            scores = torch.bmm(query, view.keys[at])
            torch.bmm(torch.softmax(scores, dim=-1), view.values[at], out=out)
        return found.view(len(views), -1).to(qkv.dtype)


@dataclass(frozen=True)
class _Views:
    """One conversation's cache as each layer reads it and writes to it."""

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    new: Sequence[Tensor]

    @classmethod
    def of(cls, cached: Tensor, first: int, last: int) -> _Views:
        seen = cached[:, :, :, first : last + 1]
        return cls(
            keys=seen[:, 0].transpose(-1, -2).unbind(0),
            values=seen[:, 1].unbind(0),
            new=cached[:, :, :, last].unbind(0),
        )


def _split_and_turn(qkv: Tensor, heads: Heads, rotations: Rotations, dtype: torch.dtype) -> Tensor:
    """[rows, heads + 2 kv heads, head dim], normed and turned, in the cache's type."""
    shape = heads.shape
    parted = qkv.float().view(len(qkv), -1, shape.head_dim)
    if heads.norm is not None:
        normed = parted[:, : len(heads.norm)]
        normed = rms_norm(normed, shape.epsilon) * heads.norm
        parted = torch.cat((normed, parted[:, len(heads.norm) :]), dim=1)
    return rotations.of(heads)(parted).to(dtype)
