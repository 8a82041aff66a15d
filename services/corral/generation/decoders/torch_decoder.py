"""The decoder: every known family's network in plain torch, batched over conversations.

Reads prompts with matrices in the precision's activations, which is fastest for many rows, and writes
tokens with those in the precision itself, whose fewer bytes are fastest for few. Knows nothing of
files, text or sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Protocol, cast

import torch
from torch import Tensor

from corral.generation.decoders.adapters import LayerAdapter, adapted_layer
from corral.generation.decoders.attention import DecodeAttention, Heads, PrefillAttention
from corral.generation.decoders.base import Cache
from corral.generation.decoders.kv_cache import KVCache, capacity_for
from corral.generation.decoders.layers import Layer, make_layer, make_norm
from corral.generation.decoders.linear import make_linear
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.shape import NetworkWeights, Shape

# A second copy of the matrices for reading prompts is made up to this size. It makes reading 2 to 3
# times as fast; a larger model's memory is worth more.
READING_COPY_BYTES = 1024**3
# Tokens that are scored at a time: their logits are what takes memory.
_SCORED_AT_ONCE = 64


class _Attention(Protocol):
    def of(self, at: int, heads: Heads) -> Callable[[Tensor], Tensor]: ...


class TorchDecoder:
    """A `Decoder` of the known families."""

    def __init__(self, weights: NetworkWeights, precision: Precision, device: torch.device) -> None:
        shape = weights.shape
        dtype = precision.activations
        # What this is an adapted copy of.
        self._base: TorchDecoder | None = None
        self._shape = shape
        self._device = device
        self._precision = precision
        self._cache_dtype = torch.float32 if device.type == "cpu" else dtype
        self._embedding = weights.embedding.to(device, dtype)
        self._positions = None if weights.positions is None else weights.positions.to(device, dtype)
        self._heads = [
            Heads(
                shape,
                layer.rope,
                layer.window,
                None if layer.head_norm is None else layer.head_norm.to(device),
            )
            for layer in weights.layers
        ]
        self._writing = [make_layer(layer, shape, precision, device) for layer in weights.layers]
        self._reading = self._reading_layers(weights)
        self._final_norm = make_norm(weights.final_norm, shape, precision, device)
        # In int4 the head alone costs 4.5 % of SmolLM2's perplexity; in int8 it would be no faster.
        exact = Precision.FP32 if precision is Precision.FP32 else Precision.BF16
        self._head = make_linear(weights.head, exact, device)

    def _reading_layers(self, weights: NetworkWeights) -> list[Layer]:
        exact = Precision.FP32 if self._precision is Precision.FP32 else Precision.BF16
        if self._device.type != "cpu" or exact is self._precision:
            return self._writing
        if reading_copy_bytes(weights) > READING_COPY_BYTES:
            return self._writing
        return [make_layer(layer, self._shape, exact, self._device) for layer in weights.layers]

    # ------------------------------------------------------------ what is known of it

    @property
    def vocabulary(self) -> int:
        return int(self._embedding.shape[0])

    @property
    def size_bytes(self) -> int:
        layers = self._writing if self._reading is self._writing else self._writing + self._reading
        matrices = sum(layer.size_bytes for layer in layers) + self._head.size_bytes
        tables = (self._embedding, *(() if self._positions is None else (self._positions,)))
        return int(matrices + sum(table.numel() * table.element_size() for table in tables))

    @property
    def can_quantize(self) -> bool:
        return self._device.type == "cpu"

    @property
    def description(self) -> str:
        return f"{self._precision} on {self._device.type}"

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def layers(self) -> int:
        return len(self._writing)

    def adapted(self, adapters: Sequence[LayerAdapter]) -> TorchDecoder:
        """This network with an adapter for each layer. All its own weights are shared with it, and
        stay in memory as long as it does.
        """

        def with_adapters(layers: Sequence[Layer]) -> list[Layer]:
            return [
                adapted_layer(layer, adapter, self._precision, self._device)
                for layer, adapter in zip(layers, adapters, strict=True)
            ]

        other = copy(self)
        other._base = self
        other._writing = with_adapters(self._writing)
        shares = self._reading is self._writing
        other._reading = other._writing if shares else with_adapters(self._reading)
        return other

    def new_cache(self) -> KVCache:
        shape = self._shape
        return KVCache(
            len(self._writing),
            shape.kv_heads,
            shape.head_dim,
            limit=shape.context,
            dtype=self._cache_dtype,
            device=self._device,
        )

    def cache_bytes(self, tokens: int) -> int:
        shape = self._shape
        per_token = 2 * len(self._writing) * shape.kv_heads * shape.head_dim
        return per_token * self._cache_dtype.itemsize * capacity_for(tokens, shape.context)

    # ------------------------------------------------------------ computing

    @torch.inference_mode()
    def prefill(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        own = cast(KVCache, cache)
        x = self._embed(tokens, range(own.length, own.length + len(tokens)))
        attention = PrefillAttention(own, len(tokens), self._device)
        self._run(x, self._reading, attention)
        return self._logits(x[-1:])[0]

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int], caches: Sequence[Cache]) -> Tensor:
        own = cast(Sequence[KVCache], caches)
        x = self._embed(tokens, [cache.length for cache in own])
        self._run(x, self._writing, DecodeAttention(own, self._device))
        return self._logits(x)

    @torch.inference_mode()
    def score(self, tokens: Sequence[int], first: int) -> Tensor:
        found = []
        at = first
        for likelihoods in self.distributions(tokens, first):
            targets = tokens[at : at + len(likelihoods)]
            wanted = torch.tensor(targets, device=self._device)[:, None]
            found.append(likelihoods.gather(1, wanted)[:, 0])
            at += len(likelihoods)
        return torch.cat(found) if found else torch.empty(0)

    @torch.inference_mode()
    def distributions(self, tokens: Sequence[int], first: int) -> Iterator[Tensor]:
        assert 1 <= first <= len(tokens)
        cache = self.new_cache()
        for start, end in _pieces(len(tokens) - 1, first):
            x = self._embed(tokens[start:end], range(start, end))
            # As an answer is computed: its prompt is read, its own tokens are written.
            layers = self._reading if start < first else self._writing
            self._run(x, layers, PrefillAttention(cache, end - start, self._device))
            unscored = max(0, first - 1 - start)
            if unscored < end - start:
                yield torch.log_softmax(self._logits(x[unscored:]), dim=-1)

    def _embed(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """[tokens, hidden] float32."""
        x = self._embedding[torch.tensor(tokens, device=self._device)].float()
        if self._shape.embedding_scale != 1.0:
            x *= self._shape.embedding_scale
        if self._positions is not None:
            x += self._positions[torch.tensor(positions, device=self._device)]
        return x

    def _run(self, x: Tensor, layers: Sequence[Layer], attention: _Attention) -> None:
        """All layers on `x`, [tokens, hidden] float32, in place."""
        for at, (layer, heads) in enumerate(zip(layers, self._heads, strict=True)):
            layer.attend(x, attention.of(at, heads))
            layer.feed_forward(x)

    def _logits(self, x: Tensor) -> Tensor:
        logits = self._head(self._final_norm(x)).float()
        if (cap := self._shape.logit_cap) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits


def reading_copy_bytes(weights: NetworkWeights) -> int:
    """Bytes of the layers' matrices in bfloat16."""
    matrices = (
        affine.weight.numel()
        for layer in weights.layers
        for affine in (layer.qkv, layer.attention_out, layer.mlp_in, layer.mlp_out)
    )
    return 2 * sum(matrices)


def _pieces(count: int, border: int) -> Iterator[tuple[int, int]]:
    """Begins and ends of pieces of `count` tokens, none of them across the border."""
    border = min(border, count)
    for begin, end in ((0, border), (border, count)):
        for start in range(begin, end, _SCORED_AT_ONCE):
            yield start, min(start + _SCORED_AT_ONCE, end)
