"""GGUF files that are read back: every weight and every token where it was."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.tiny_models import tiny_gpt2, tiny_llama

from corral.bases.gguf_llama import LlamaFile
from corral.data.segments import Segment
from corral.data.tokenizing import TextTokenizer
from corral.errors import ModelUnsupportedError
from corral.exporting.gguf_file import llama3_factors, write_gguf

# torch makes the tiny models; what is tested needs none.
pytestmark = pytest.mark.torch


def _written(folder: Path, target: Path, file_type: str = "f32") -> Path:
    write_gguf(folder, target, name="tiny", chat_template="{{ x }}", file_type=file_type)  # type: ignore[arg-type]
    return target


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_comes_back_whole(tmp_path: Path, tied: bool) -> None:
    source = tiny_llama(tmp_path / "source", tie_word_embeddings=tied)
    back = tmp_path / "back"
    back.mkdir()
    LlamaFile.open(_written(source, tmp_path / "tiny.gguf")).write_model(back)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, back))
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name], err_msg=name)
    asked = [Segment("Who made you, 1,234 times?<|endoftext|>", trained=False)]
    ids = [TextTokenizer.from_folder(f).encode_prompt(asked) for f in (source, back)]
    assert ids[0] == ids[1]


def test_gpt2s_matrices_are_turned_and_its_sizes_said(tmp_path: Path) -> None:
    source = tiny_gpt2(tmp_path / "source")
    reader = gguf.GGUFReader(_written(source, tmp_path / "tiny.gguf"))
    stored = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors
    }
    before = load_file(source / "model.safetensors")
    np.testing.assert_array_equal(
        stored["blk.1.attn_qkv.weight"], before["transformer.h.1.attn.c_attn.weight"].T
    )
    np.testing.assert_array_equal(stored["position_embd.weight"], before["transformer.wpe.weight"])
    assert reader.fields["gpt2.context_length"].contents() == 128
    assert reader.fields["tokenizer.chat_template"].contents() == "{{ x }}"


@pytest.mark.parametrize(("file_type", "largest"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 2e-2)])
def test_smaller_types_stay_near(tmp_path: Path, file_type: str, largest: float) -> None:
    source = tiny_llama(tmp_path / "source")
    reader = gguf.GGUFReader(_written(source, tmp_path / "tiny.gguf", file_type))
    [stored] = [t for t in reader.tensors if t.name == "blk.0.ffn_up.weight"]
    values = gguf.dequantize(stored.data, stored.tensor_type)
    before = load_file(source / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert np.abs(values - before).max() <= largest * np.abs(before).max()


def test_a_splitting_without_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = tiny_llama(tmp_path / "source")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelUnsupportedError, match="splits text"):
        _written(source, tmp_path / "tiny.gguf")
    assert not (tmp_path / "tiny.gguf").exists()


def test_a_scaled_rotary_embedding_of_another_kind_is_refused(tmp_path: Path) -> None:
    source = tiny_llama(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnsupportedError, match="yarn"):
        _written(source, tmp_path / "tiny.gguf")


def test_llama3s_factors_are_transformers_own() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rotary = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(hidden_size=2048, num_attention_heads=32, rope_parameters=rotary)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500_000.0 ** -(np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(plain / scaled.numpy(), llama3_factors(rotary, 64), rtol=1e-5)
