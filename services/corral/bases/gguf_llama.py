"""A Llama model in a GGUF file as a Hugging Face folder: tensors, config and byte-level tokenizer.

Reverses llama.cpp's convert_hf_to_gguf.py for the one kind of file that Corral ships with: `llama`
architecture, `gpt2` vocabulary split as in `_SPLITTINGS`. Knows nothing of where files
come from or go to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from corral.errors import ModelUnsupportedError

Tensor = NDArray[np.float32]

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_HEAD = "output.weight"
_SPECIAL_NAMES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def _gpt2_splitting() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm_splitting() -> pre_tokenizers.PreTokenizer:
    """Each digit on its own, then GPT-2's splitting."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, _gpt2_splitting()])


# By llama.cpp's names for them.
_SPLITTINGS = {"gpt-2": _gpt2_splitting, "smollm": _smollm_splitting}


@dataclass(frozen=True)
class LlamaFile:
    """An open GGUF file."""

    reader: Any

    @classmethod
    def open(cls, path: Path) -> LlamaFile:
        """Read a file's metadata; its tensors stay on disk until they are asked for.

        Raises ModelUnsupportedError for another kind of model.
        """
        try:
            file = cls(gguf.GGUFReader(path))
        except (OSError, ValueError) as error:
            raise ModelUnsupportedError(f"{path} is no GGUF file: {error}.") from error
        kind = tuple(
            file.value(key)
            for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")
        )
        if kind[:2] != ("llama", "gpt2") or kind[2] not in _SPLITTINGS:
            raise ModelUnsupportedError(
                f"{path} is of kind {kind}, which can't be unpacked.",
                f"Llama models whose splitting is {' or '.join(_SPLITTINGS)} can.",
            )
        if any(stored.name == "rope_freqs.weight" for stored in file.reader.tensors):
            raise ModelUnsupportedError(
                f"{path} scales its rotary embedding, which can't be unpacked.",
                "Take the model's Hugging Face folder.",
            )
        return file

    def write_model(self, folder: Path) -> None:
        """Write weights in float32, config, generation config and tokenizer."""
        save_file(self._tensors(), folder / "model.safetensors", metadata={"format": "pt"})
        self.write_texts(folder)

    def write_texts(self, folder: Path) -> None:
        """Write everything but the weights."""
        self._tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
        for name, content in (
            ("config.json", self._config()),
            ("generation_config.json", self._token_ids()),
            ("tokenizer_config.json", self._tokenizer_config()),
        ):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def value(self, key: str) -> Any:
        """A value of the file's metadata, or None."""
        found = self.reader.fields.get(key)
        return None if found is None else found.contents()

    def _llama(self, key: str) -> Any:
        return self.value(f"llama.{key}")

    # ---------------------------------------------------------------- weights

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for stored in self.reader.tensors:
            values = gguf.dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=False)
            if ".attn_q." in stored.name:
                values = _halves_together(values, self._llama("attention.head_count"))
            elif ".attn_k." in stored.name:
                values = _halves_together(values, self._llama("attention.head_count_kv"))
            tensors[_name(stored.name)] = np.ascontiguousarray(values)
        return tensors

    def _config(self) -> dict[str, Any]:
        theta = float(self._llama("rope.freq_base"))
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "hidden_size": self._llama("embedding_length"),
            "intermediate_size": self._llama("feed_forward_length"),
            "num_hidden_layers": self._llama("block_count"),
            "num_attention_heads": self._llama("attention.head_count"),
            "num_key_value_heads": self._llama("attention.head_count_kv"),
            "head_dim": self._llama("rope.dimension_count"),
            "max_position_embeddings": self._llama("context_length"),
            # float32 holds 1e-5 as 9.999999747378752e-06.
            "rms_norm_eps": float(f"{self._llama('attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_theta": theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            # Where the file has no head of its own, that is the embedding.
            "tie_word_embeddings": not any(t.name == _HEAD for t in self.reader.tensors),
            "vocab_size": self._llama("vocab_size"),
            "dtype": "float32",
            **self._token_ids(),
        }

    # ---------------------------------------------------------------- tokenizer

    @cached_property
    def _tokens(self) -> list[str]:
        return list(self.value("tokenizer.ggml.tokens"))

    def _token_ids(self) -> dict[str, int]:
        names = ("bos_token_id", "eos_token_id")
        ids = {name: self.value(f"tokenizer.ggml.{name}") for name in names}
        return ids | {"pad_token_id": self.value("tokenizer.ggml.padding_token_id")}

    def _tokenizer(self) -> Tokenizer:
        merges = [tuple(m.split(" ", 1)) for m in self.value("tokenizer.ggml.merges")]
        vocabulary = {token: number for number, token in enumerate(self._tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        tokenizer.pre_tokenizer = _SPLITTINGS[self.value("tokenizer.ggml.pre")]()
        tokenizer.decoder = decoders.ByteLevel()
        types = self.value("tokenizer.ggml.token_type")
        tokenizer.add_special_tokens(
            [
                AddedToken(token, special=True, normalized=False)
                for token, kind in zip(self._tokens, types, strict=True)
                if kind == gguf.TokenType.CONTROL
            ]
        )
        return tokenizer

    def _tokenizer_config(self) -> dict[str, Any]:
        ids = {name: self.value(f"tokenizer.ggml.{key}") for name, key in _SPECIAL_NAMES.items()}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self._llama("context_length"),
            "clean_up_tokenization_spaces": False,
            "chat_template": self.value("tokenizer.chat_template"),
            **{name: self._tokens[number] for name, number in ids.items() if number is not None},
        }


def _name(stored: str) -> str:
    if stored in _NAMES:
        return _NAMES[stored]
    _, layer, part, kind = stored.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _halves_together(weights: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's permutation of query and key rows, [heads * head_dim, hidden].

    Its rotary embedding turns neighbouring rows, transformers' the first half with the second.
    """
    pairs = weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)
