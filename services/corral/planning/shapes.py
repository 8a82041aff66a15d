"""The sizes of a model, read from its config.json: layers, widths, parameters.

Reads that one file, so that a plan needs neither weights nor torch. The counts are those of
transformers' own classes (a test holds them equal for every architecture on the list). Knows nothing
of memory or time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corral.bases import check_architecture
from corral.bases.architecture import CONFIG_FILE, read_config
from corral.errors import ModelUnsupportedError


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide what a model costs. Widths are elements, counts parameters."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    is_tied: bool
    has_dropout: bool
    # Of one decoder layer: all of them, and those in matrices, which is where the arithmetic is.
    layer_parameters: int
    layer_matrix_parameters: int
    # Rows plus columns over the layer's matrices: what LoRA's factors have for each rank.
    layer_matrix_sides: int
    # Position embeddings and the last norm.
    other_parameters: int

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, and of the head where it is not the same tensor."""
        return self.vocabulary * self.hidden * (1 if self.is_tied else 2)

    @property
    def parameters(self) -> int:
        """All of them, a tied tensor once."""
        return (
            self.layers * self.layer_parameters + self.other_parameters + self.embedding_parameters
        )

    def with_vocabulary(self, tokens: int) -> ModelShape:
        """The shape once the embedding has a row for each of so many tokens."""
        return replace(self, vocabulary=max(self.vocabulary, tokens))


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a Hugging Face folder.

    Raises ModelUnsupportedError where config.json lacks a size, or the architecture is not on the
    list.
    """
    architecture = check_architecture(folder)
    config = read_config(folder)
    try:
        return _gpt2(config) if architecture == "GPT2LMHeadModel" else _llama(architecture, config)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelUnsupportedError(
            f"{folder / CONFIG_FILE} does not say the model's sizes: {error}."
        ) from error


def _gpt2(config: dict[str, Any]) -> ModelShape:
    hidden = config["n_embd"]
    inner = config.get("n_inner") or 4 * hidden
    matrices = 4 * hidden * hidden + 2 * hidden * inner
    # Biases of qkv (3), the attention's and the MLP's output (2); two norms of gain and bias (4).
    vectors = 9 * hidden + inner
    return ModelShape(
        architecture="GPT2LMHeadModel",
        layers=config["n_layer"],
        hidden=hidden,
        heads=config["n_head"],
        kv_heads=config["n_head"],
        head_dim=hidden // config["n_head"],
        intermediate=inner,
        vocabulary=config["vocab_size"],
        is_tied=config.get("tie_word_embeddings", True),
        # GPT2Config's own defaults are 0.1.
        has_dropout=any(config.get(name, 0.1) > 0 for name in ("attn_pdrop", "resid_pdrop")),
        layer_parameters=matrices + vectors,
        layer_matrix_parameters=matrices,
        layer_matrix_sides=6 * hidden + 2 * (hidden + inner),
        other_parameters=config["n_positions"] * hidden + 2 * hidden,
    )


def _llama(architecture: str, config: dict[str, Any]) -> ModelShape:
    """Llama and its relatives: rotary positions, grouped queries, a gated MLP."""
    gemma, qwen3 = architecture == "Gemma3ForCausalLM", architecture == "Qwen3ForCausalLM"
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    # What the two families' configurations say where the file does not.
    head_dim = config.get("head_dim") or ({True: 256}.get(gemma) or 128 * qwen3 or hidden // heads)
    inner = config["intermediate_size"]
    queries, keys = heads * head_dim, kv_heads * head_dim
    matrices = 2 * hidden * (queries + keys) + 3 * hidden * inner
    vectors = (4 if gemma else 2) * hidden
    if gemma or qwen3:
        vectors += 2 * head_dim
    if architecture == "Qwen2ForCausalLM":
        vectors += queries + 2 * keys
    elif config.get("attention_bias"):
        vectors += queries + 2 * keys + hidden
    if config.get("mlp_bias"):
        vectors += 2 * inner + hidden
    return ModelShape(
        architecture=architecture,
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=inner,
        vocabulary=config["vocab_size"],
        is_tied=config.get("tie_word_embeddings", gemma),
        has_dropout=config.get("attention_dropout", 0.0) > 0,
        layer_parameters=matrices + vectors,
        layer_matrix_parameters=matrices,
        layer_matrix_sides=4 * hidden + 2 * (queries + keys) + 3 * (hidden + inner),
        other_parameters=hidden,
    )
