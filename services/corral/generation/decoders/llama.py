"""Llama, Mistral, Qwen2, Qwen3 and Gemma 3: one family, whose members differ in a few choices.

Reads their config.json and tensors into `NetworkWeights`; computes nothing but fused matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corral.generation.decoders.activations import activation
from corral.generation.decoders.fields import Fields
from corral.generation.decoders.rotary import plain_rope, read_rope
from corral.generation.decoders.shape import (
    Affine,
    LayerWeights,
    NetworkWeights,
    Norm,
    Rope,
    Shape,
    UnknownVariantError,
)
from corral.generation.decoders.tensor_folder import TensorFolder

ARCHITECTURES = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Gemma3ForCausalLM",
    }
)
_GEMMA = "Gemma3ForCausalLM"
_SLIDING, _FULL = "sliding_attention", "full_attention"


def read_network(architecture: str, config: Fields, tensors: TensorFolder) -> NetworkWeights:
    """Raises UnknownVariantError for a choice that the decoder has no place for,
    ModelUnsupportedError for tensors that are absent or do not fit the config.
    """
    shape = _read_shape(architecture, config)
    reader = _Reader(architecture, config, tensors, shape)
    vocabulary = config.count("vocab_size")
    embedding = tensors.take("model.embed_tokens.weight", vocabulary, shape.hidden)
    head = tensors.take_if_there("lm_head.weight", vocabulary, shape.hidden)
    tied = config.flag("tie_word_embeddings", architecture == _GEMMA)
    if head is None and not tied:
        head = tensors.take("lm_head.weight", vocabulary, shape.hidden)
    windows = _windows(architecture, config)
    return NetworkWeights(
        shape=shape,
        embedding=embedding,
        positions=None,
        layers=tuple(reader.layer(at, window) for at, window in enumerate(windows)),
        final_norm=reader.norm("model.norm.weight", shape.hidden),
        head=Affine(embedding if tied or head is None else head),
    )


def _read_shape(architecture: str, config: Fields) -> Shape:
    for name in ("attn_logit_softcapping", "use_bidirectional_attention"):
        config.require(name, False)
    is_gemma = architecture == _GEMMA
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    head_dim = config.count("head_dim", 256 if is_gemma else hidden // heads)
    function = (
        config.word("hidden_activation", "gelu_pytorch_tanh")
        if is_gemma
        else config.word("hidden_act", "silu")
    )
    scaled_by = config.number("query_pre_attn_scalar", 256.0) if is_gemma else float(head_dim)
    return Shape(
        hidden=hidden,
        heads=heads,
        kv_heads=config.count("num_key_value_heads", 4 if is_gemma else heads),
        head_dim=head_dim,
        context=config.count("max_position_embeddings"),
        norm="rms",
        epsilon=config.number("rms_norm_eps", 1e-6),
        activation=activation(function),
        gated=True,
        query_scale=scaled_by**-0.5,
        embedding_scale=hidden**0.5 if is_gemma else 1.0,
        logit_cap=config.optional_number("final_logit_softcapping"),
    )


def _windows(architecture: str, config: Fields) -> list[int | None]:
    """How far back each layer sees."""
    count = config.count("num_hidden_layers")
    types = config.words("layer_types")
    window = config.optional_number("sliding_window")
    if architecture == _GEMMA:
        window = config.number("sliding_window", 4096)
        pattern = config.count("sliding_window_pattern", 6)
        types = types or [_SLIDING if (at + 1) % pattern else _FULL for at in range(count)]
    elif architecture.startswith("Qwen"):
        if not config.flag("use_sliding_window", False):
            return [None] * count
        first = config.count("max_window_layers", 28)
        types = types or [_SLIDING if at >= first else _FULL for at in range(count)]
    elif architecture == "MistralForCausalLM" and window is not None:
        types = [_SLIDING] * count
    else:
        return [None] * count
    if len(types) != count or not set(types) <= {_SLIDING, _FULL}:
        raise UnknownVariantError(f"layer_types is {types}")
    return [int(window) if kind == _SLIDING and window else None for kind in types]


class _Reader:
    """Takes layers out of a folder."""

    def __init__(
        self, architecture: str, config: Fields, tensors: TensorFolder, shape: Shape
    ) -> None:
        self._is_gemma = architecture == _GEMMA
        self._tensors = tensors
        self._shape = shape
        self._intermediate = config.count("intermediate_size")
        self._full_rope, self._sliding_rope = self._ropes(config)

    def _ropes(self, config: Fields) -> tuple[Rope, Rope]:
        """Of layers that see everything, and of those that see a window."""
        dim = self._shape.head_dim
        if not self._is_gemma:
            rope = read_rope(config, dim)
            return rope, rope
        if config.table("rope_parameters") is None:
            local = config.number("rope_local_base_freq", 10_000.0)
            return read_rope(config, dim), plain_rope(local, dim)
        return read_rope(config, dim, _FULL), read_rope(config, dim, _SLIDING)

    def layer(self, at: int, window: int | None) -> LayerWeights:
        name, shape = f"model.layers.{at}", self._shape
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        before_mlp = "pre_feedforward_layernorm" if self._is_gemma else "post_attention_layernorm"
        return LayerWeights(
            attention_norm=self.norm(f"{name}.input_layernorm.weight", shape.hidden),
            qkv=_stacked(
                self._affine(f"{attention}.q_proj", wide, shape.hidden),
                self._affine(f"{attention}.k_proj", narrow, shape.hidden),
                self._affine(f"{attention}.v_proj", narrow, shape.hidden),
            ),
            attention_out=self._affine(f"{attention}.o_proj", shape.hidden, wide),
            mlp_norm=self.norm(f"{name}.{before_mlp}.weight", shape.hidden),
            mlp_in=_stacked(
                self._affine(f"{mlp}.gate_proj", self._intermediate, shape.hidden),
                self._affine(f"{mlp}.up_proj", self._intermediate, shape.hidden),
            ),
            mlp_out=self._affine(f"{mlp}.down_proj", shape.hidden, self._intermediate),
            head_norm=self._head_norm(attention),
            attention_out_norm=self._gemma_norm(f"{name}.post_attention_layernorm.weight"),
            mlp_out_norm=self._gemma_norm(f"{name}.post_feedforward_layernorm.weight"),
            rope=self._full_rope if window is None else self._sliding_rope,
            window=window,
        )

    def norm(self, name: str, size: int) -> Norm:
        weight = self._tensors.take(name, size).float()
        # Gemma stores how much more than 1.
        return Norm(1.0 + weight if self._is_gemma else weight)

    def _gemma_norm(self, name: str) -> Norm | None:
        return self.norm(name, self._shape.hidden) if self._is_gemma else None

    def _affine(self, name: str, outputs: int, inputs: int) -> Affine:
        return Affine(
            self._tensors.take(f"{name}.weight", outputs, inputs),
            self._tensors.take_if_there(f"{name}.bias", outputs),
        )

    def _head_norm(self, attention: str) -> Tensor | None:
        """Qwen 3's and Gemma's norm of each head, for queries and keys one after the other."""
        shape = self._shape
        if f"{attention}.q_norm.weight" not in self._tensors.names:
            return None
        query = self.norm(f"{attention}.q_norm.weight", shape.head_dim).weight
        key = self.norm(f"{attention}.k_norm.weight", shape.head_dim).weight
        return torch.cat((query.expand(shape.heads, -1), key.expand(shape.kv_heads, -1)))


def _stacked(*parts: Affine) -> Affine:
    """Matrices of the same input as one."""
    weight = torch.cat([part.weight for part in parts])
    biases = [part.bias for part in parts if part.bias is not None]
    if not biases:
        return Affine(weight)
    if len(biases) < len(parts):
        raise UnknownVariantError("some of the fused matrices have a bias and some have none")
    return Affine(weight, torch.cat(biases))
