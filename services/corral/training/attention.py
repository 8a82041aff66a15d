"""Attention within documents that lie behind each other in one row, without a mask over the row.

A row of 4,000 tokens has 16 million pairs of which 20 documents need one million. So each document's
queries meet the keys of that document alone, as plain matrix products. Documents that begin alike
share the tokens of their beginning, which are computed once (see corral.training.batches).

It is an attention function of transformers' AttentionInterface, so every architecture uses it: GPT-2's
scaling, grouped queries and sliding windows arrive as arguments. Knows nothing of models or losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from corral.training.flash import can_flash, flash_attention

NAME = "corral_documents"

# Queries of a long document that are computed together: its later keys are not even touched.
_BLOCK = 256


@dataclass(frozen=True)
class Document:
    """Tokens start to stop of a row, which read each other causally. Before them they read the
    tokens from prefix_start to prefix_stop, which other documents may read too.
    """

    start: int
    stop: int
    prefix_start: int = 0
    prefix_stop: int = 0

    @property
    def prefix_length(self) -> int:
        return self.prefix_stop - self.prefix_start


class Row:
    """The documents of a row on their way through a model's layers.

    Not a tuple: a compiled layer would be compiled anew for every number of documents.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents


def use_document_attention(model: Any) -> None:
    """Let the model's layers attend within documents where they are given, see `no_mask`; elsewhere
    as scaled dot product attention with transformers' masks.
    """
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def no_mask(device: torch.device) -> Tensor:
    """What to pass as attention mask together with `row`: transformers takes a mask of four
    dimensions as ready-made, and so computes none.
    """
    return torch.empty((1, 1, 0, 0), device=device)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    row: Row | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls. query: [rows, heads, tokens, dim], key and value with fewer heads or as
    many; returns [rows, tokens, heads, dim].
    """
    if row is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    assert others.get("softcap") is None, "no architecture on the list caps its attention scores"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Rotary positions are applied in the type of the residual stream, which may be longer.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if can_flash(query, dropout):
        return flash_attention(query, key, value, row.documents, scale, sliding_window), None
    out = _DocumentAttention.apply(  # type: ignore[no-untyped-call]
        query[0], key[0], value[0], row.documents, scale, sliding_window, dropout
    )
    return out[None], None


@dataclass(frozen=True)
class _Block:
    """Rows of queries and the ranges of keys that any of them reads. The last query is in the last
    key's place.
    """

    rows: slice
    keys: tuple[slice, ...]

    @classmethod
    def of(cls, documents: Sequence[Document], window: int | None) -> Iterator[_Block]:
        for document in documents:
            shared, length = document.prefix_length, document.stop - document.start
            for begin in range(0, length, _BLOCK):
                end = min(begin + _BLOCK, length)
                # In the document's own count of tokens, its prefix included.
                first = max(0, shared + begin + 1 - window) if window else 0
                own = slice(document.start + max(0, first - shared), document.start + end)
                prefix = slice(document.prefix_start + first, document.prefix_stop)
                keys = (prefix, own) if first < shared else (own,)
                yield cls(slice(document.start + begin, document.start + end), keys)

    def read(self, heads: Tensor) -> Tensor:
        """The block's keys or values out of [heads, tokens, dim]."""
        parts = [heads[:, keys] for keys in self.keys]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def add(self, total: Tensor, part: Tensor) -> None:
        """Add a gradient of the block's keys or values to the row's."""
        begin = 0
        for keys in self.keys:
            length = keys.stop - keys.start
            total[:, keys] += part[:, begin : begin + length]
            begin += length


class _DocumentAttention(torch.autograd.Function):
    """softmax(scale * query @ key^T) @ value, block by block; matrix products in the type of the
    arguments, the softmax in float32.

    On one CPU core 2.4 times as fast as scaled_dot_product_attention called for each document, which
    has no bf16 matrix product of full speed there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        documents: Sequence[Document],
        scale: float,
        window: int | None,
        dropout: float,
    ) -> Tensor:
        """query: [heads, tokens, dim]; key, value: [key heads, tokens, dim]. Returns
        [tokens, heads, dim].
        """
        heads, tokens, dim = query.shape
        out = query.new_empty(tokens, heads, dim)
        blocks = list(_Block.of(documents, window))
        kept: list[Tensor] = []
        for block in blocks:
            scores = _grouped(query, block, len(key)) @ block.read(key).transpose(1, 2)
            weights = _softmax(scores.view(heads, -1, scores.shape[-1]), scale, window)
            weights = weights.to(query.dtype)
            kept.append(weights)
            if dropout:
                keep = torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
                kept.append(keep)
                weights = weights * keep
            values = weights.view(scores.shape) @ block.read(value)
            out[block.rows] = values.view(heads, -1, dim).transpose(0, 1)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.blocks, ctx.scale, ctx.has_dropout = blocks, scale, dropout > 0
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """`grads`: of the output, [tokens, heads, dim]."""
        query, key, value, *kept = ctx.saved_tensors
        grad = grads[0].transpose(0, 1)
        query_grad = torch.empty_like(query)
        key_grad, value_grad = torch.zeros_like(key), torch.zeros_like(value)
        saved = iter(kept)
        for block in ctx.blocks:
            weights, keep = next(saved), next(saved) if ctx.has_dropout else None
            grad_rows = _grouped(grad, block, len(key))
            used = weights if keep is None else weights * keep
            shape = (len(key), -1, weights.shape[-1])
            block.add(value_grad, used.view(shape).transpose(1, 2) @ grad_rows)
            grad_weights = (grad_rows @ block.read(value).transpose(1, 2)).view(weights.shape)
            if keep is not None:
                grad_weights *= keep
            scores_grad = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            scores_grad = scores_grad.mul_(ctx.scale).view(shape)
            rows_grad = scores_grad @ block.read(key)
            query_grad[:, block.rows] = rows_grad.view(len(query), -1, query.shape[-1])
            block.add(key_grad, scores_grad.transpose(1, 2) @ _grouped(query, block, len(key)))
        return query_grad, key_grad, value_grad, None, None, None, None


def _grouped(heads: Tensor, block: _Block, key_heads: int) -> Tensor:
    """The block's rows of [heads, tokens, dim], those that read the same key head behind each other:
    [key heads, rows, dim].
    """
    return heads[:, block.rows].reshape(key_heads, -1, heads.shape[-1])


def _softmax(scores: Tensor, scale: float, window: int | None) -> Tensor:
    """Softmax over the keys that each row may read: [heads, rows, keys] float32. The last row stands
    at the last key.
    """
    rows, keys = scores.shape[-2:]
    scores = scores.float().mul_(scale)
    later = torch.full((rows, rows), -torch.inf, device=scores.device).triu_(1)
    scores[..., keys - rows :] += later
    if window is not None and keys > window:
        scores += torch.full((rows, keys), -torch.inf, device=scores.device).tril_(
            keys - rows - window
        )
    return torch.softmax(scores, dim=-1)
