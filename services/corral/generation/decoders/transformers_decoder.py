"""transformers' own network behind the decoder's interface, for configs that ours have no place for.

One conversation at a time: right, and several times slower. Knows nothing of files beyond what
`corral.networks` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from corral.generation.decoders.base import Cache
from corral.generation.decoders.precision import Precision


class _DynamicCache:
    """transformers' cache, and how many tokens are in it."""

    def __init__(self, config: Any) -> None:
        from transformers import DynamicCache

        self._config = config
        self.keys_and_values = DynamicCache(config=config)
        self.length = 0

    @property
    def size_bytes(self) -> int:
        layers: Any = self.keys_and_values.layers
        held = [tensor for layer in layers if layer.is_initialized for tensor in _tensors(layer)]
        return sum(int(tensor.numel() * tensor.element_size()) for tensor in held)

    def truncate(self, length: int) -> int:
        if length < self.length:
            from transformers import DynamicCache

            # Not crop(): a layer with a sliding window no longer has what would be its end then.
            self.keys_and_values = DynamicCache(config=self._config)
            self.length = 0
        return self.length

    def fork(self, length: int) -> _DynamicCache:
        return _DynamicCache(self._config)


def _tensors(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values


class TransformersDecoder:
    """A `Decoder` of any network that transformers loads."""

    def __init__(self, network: Any, precision: Precision, device: torch.device) -> None:
        self._network = network
        self._precision = precision
        self._device = device

    @classmethod
    def open(cls, folder: Path, precision: Precision, device: torch.device) -> TransformersDecoder:
        """Raises as `corral.networks.load_network` does."""
        from corral.networks import load_network

        exact = Precision.FP32 if precision is Precision.FP32 else Precision.BF16
        network = load_network(folder, exact.activations).to(device).eval()
        return cls(network, exact, device)

    @property
    def vocabulary(self) -> int:
        return int(self._network.get_input_embeddings().weight.shape[0])

    @property
    def size_bytes(self) -> int:
        # parameters() and buffers() name a tied tensor once.
        tensors = (*self._network.parameters(), *self._network.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def can_quantize(self) -> bool:
        return False

    @property
    def description(self) -> str:
        return f"{self._precision} on {self._device.type}, by transformers"

    def new_cache(self) -> _DynamicCache:
        return _DynamicCache(self._network.config)

    def cache_bytes(self, tokens: int) -> int:
        config = self._network.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token = 2 * config.num_hidden_layers * heads * dim
        return int(per_token * tokens * self._precision.activations.itemsize)

    def prefill(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        return self._forward(tokens, cast(_DynamicCache, cache), 1)[-1]

    def decode(self, tokens: Sequence[int], caches: Sequence[Cache]) -> Tensor:
        pairs = zip(tokens, caches, strict=True)
        return torch.stack([self.prefill([token], cache) for token, cache in pairs])

    def score(self, tokens: Sequence[int], first: int) -> Tensor:
        targets = torch.tensor(tokens[first:], device=self._device)[:, None]
        (likelihoods,) = self.distributions(tokens, first)
        return likelihoods.gather(1, targets)[:, 0]

    def distributions(self, tokens: Sequence[int], first: int) -> Iterator[Tensor]:
        logits = self._forward(tokens[:-1], self.new_cache(), len(tokens) - first)
        yield torch.log_softmax(logits, dim=-1)

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[int], cache: _DynamicCache, kept: int) -> Tensor:
        """Logits behind the last `kept` tokens: [kept, vocabulary] float32."""
        output = self._network(
            input_ids=torch.tensor([list(tokens)], device=self._device),
            past_key_values=cache.keys_and_values,
            use_cache=True,
            logits_to_keep=kept,
        )
        cache.length += len(tokens)
        logits: Tensor = output.logits[0].float()
        return logits
