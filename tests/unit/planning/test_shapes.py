"""Parameter counts from config.json alone, against the classes of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ModelUnsupportedError
from corral.planning.shapes import read_shape

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 128,
}
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 300}

MODELS = [
    ("GPT2", _GPT2),
    ("GPT2", {**_GPT2, "n_inner": 100}),
    ("Llama", _SMALL),
    ("Llama", {**_SMALL, "tie_word_embeddings": True, "head_dim": 16}),
    ("Llama", {**_SMALL, "attention_bias": True, "mlp_bias": True}),
    ("Mistral", {**_SMALL, "head_dim": None}),
    ("Qwen2", _SMALL),
    ("Qwen3", {**_SMALL, "head_dim": 8}),
    ("Qwen3", {**_SMALL, "attention_bias": True}),
    ("Gemma3", {**_SMALL, "head_dim": 16}),
    ("Gemma3", _SMALL),
]


@pytest.mark.torch
@pytest.mark.parametrize(("family", "fields"), MODELS)
def test_counts_what_the_model_has(tmp_path: Path, family: str, fields: dict[str, Any]) -> None:
    import torch
    import transformers

    suffix = {"GPT2": "LMHeadModel"}.get(family, "ForCausalLM")
    config_name = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
    config = getattr(transformers, config_name)(**fields)
    with torch.device("meta"):
        model = getattr(transformers, family + suffix)(config)
    model.config.architectures = [family + suffix]
    model.config.save_pretrained(tmp_path)
    assert read_shape(tmp_path).parameters == sum(p.numel() for p in model.parameters())


def test_a_larger_tokenizer_adds_rows(tmp_path: Path) -> None:
    _write(tmp_path, architectures=["GPT2LMHeadModel"], **_GPT2)
    shape = read_shape(tmp_path)
    assert shape.with_vocabulary(310).parameters == shape.parameters + 10 * 32
    assert shape.with_vocabulary(10) == shape


def test_a_config_without_sizes_is_named(tmp_path: Path) -> None:
    _write(tmp_path, architectures=["LlamaForCausalLM"], hidden_size=32)
    with pytest.raises(ModelUnsupportedError, match="num_attention_heads"):
        read_shape(tmp_path)


def _write(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
