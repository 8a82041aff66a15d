"""GPT-2: learned positions, LayerNorm, and matrices that are stored inputs first.

Reads its config.json and tensors into `NetworkWeights`; computes nothing.
"""

from __future__ import annotations

from corral.generation.decoders.activations import activation
from corral.generation.decoders.fields import Fields
from corral.generation.decoders.shape import (
    Affine,
    LayerWeights,
    NetworkWeights,
    Norm,
    Shape,
)
from corral.generation.decoders.tensor_folder import TensorFolder

ARCHITECTURES = frozenset({"GPT2LMHeadModel"})


def read_network(architecture: str, config: Fields, tensors: TensorFolder) -> NetworkWeights:
    """Raises UnknownVariantError for a choice that the decoder has no place for,
    ModelUnsupportedError for tensors that are absent or do not fit the config.
    """
    assert architecture in ARCHITECTURES
    config.require("scale_attn_weights", True)
    config.require("scale_attn_by_inverse_layer_idx", False)
    config.require("tie_word_embeddings", True)
    shape = _read_shape(config)
    inner = config.count("n_inner", 4 * shape.hidden)
    # Some folders on the hub hold the network without its head, whose names lack this.
    prefix = "transformer." if "transformer.wte.weight" in tensors.names else ""
    embedding = tensors.take(f"{prefix}wte.weight", config.count("vocab_size"), shape.hidden)
    # Files may hold the tied head a second time.
    tensors.take_if_there("lm_head.weight", *embedding.shape)
    reader = _Reader(tensors, shape.hidden, inner)
    return NetworkWeights(
        shape=shape,
        embedding=embedding,
        positions=tensors.take(f"{prefix}wpe.weight", shape.context, shape.hidden),
        layers=tuple(
            reader.layer(f"{prefix}h.{at}", shape.context) for at in range(config.count("n_layer"))
        ),
        final_norm=reader.norm(f"{prefix}ln_f"),
        head=Affine(embedding),
    )


def _read_shape(config: Fields) -> Shape:
    hidden, heads = config.count("n_embd"), config.count("n_head")
    return Shape(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        context=config.count("n_positions"),
        norm="layer",
        epsilon=config.number("layer_norm_epsilon", 1e-5),
        activation=activation(config.word("activation_function", "gelu_new")),
        gated=False,
        query_scale=(hidden // heads) ** -0.5,
    )


class _Reader:
    """Takes layers out of a folder."""

    def __init__(self, tensors: TensorFolder, hidden: int, inner: int) -> None:
        self._tensors = tensors
        self._hidden = hidden
        self._inner = inner

    def layer(self, name: str, context: int) -> LayerWeights:
        # The causal mask, which old files hold as if it were a weight.
        self._tensors.take_if_there(f"{name}.attn.bias", 1, 1, context, context)
        self._tensors.take_if_there(f"{name}.attn.masked_bias")
        return LayerWeights(
            attention_norm=self.norm(f"{name}.ln_1"),
            qkv=self._affine(f"{name}.attn.c_attn", 3 * self._hidden, self._hidden),
            attention_out=self._affine(f"{name}.attn.c_proj", self._hidden, self._hidden),
            mlp_norm=self.norm(f"{name}.ln_2"),
            mlp_in=self._affine(f"{name}.mlp.c_fc", self._inner, self._hidden),
            mlp_out=self._affine(f"{name}.mlp.c_proj", self._hidden, self._inner),
        )

    def norm(self, name: str) -> Norm:
        return Norm(
            self._tensors.take(f"{name}.weight", self._hidden).float(),
            self._tensors.take(f"{name}.bias", self._hidden).float(),
        )

    def _affine(self, name: str, outputs: int, inputs: int) -> Affine:
        weight = self._tensors.take(f"{name}.weight", inputs, outputs)
        return Affine(weight.T, self._tensors.take(f"{name}.bias", outputs))
