"""A folder becomes a model only when it is whole, known, and what was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint_builders import write_checkpoint
from tests.tiny_models import CONTEXT, END_TOKEN

from corral.checkpoints.manifest import MANIFEST_NAME
from corral.errors import CheckpointCorruptError, ModelUnsupportedError
from corral.volume import Volume

torch = pytest.importorskip("torch")
from corral.data.templates import PromptTemplate
from corral.generation.loading import estimate_bytes, load_model
from corral.generation.shared_tokenizers import SharedTokenizers

pytestmark = pytest.mark.torch


@pytest.fixture
def copy(gpt2_folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may break."""
    return Path(shutil.copytree(gpt2_folder, tmp_path / "copy"))


def edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_base_model_without_a_chat_template_talks_alpaca(gpt2_folder: Path) -> None:
    model = load_model(gpt2_folder)
    assert model.template.name == "alpaca"
    assert model.context_length == CONTEXT
    assert model.end_ids == {model.tokenizer.token_id(END_TOKEN)}


def test_a_base_model_keeps_a_chat_template_of_its_own(copy: Path) -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant: {% endif %}"
    edit_json(copy / "tokenizer_config.json", chat_template=source)
    assert load_model(copy).template.name == "model"


def test_a_checkpoint_brings_the_template_it_was_trained_with(
    gpt2_folder: Path, tmp_path: Path
) -> None:
    folder = write_checkpoint(Volume(tmp_path), gpt2_folder, preamble="Praise the small ones.")
    assert load_model(folder).template == PromptTemplate.alpaca("Praise the small ones.")


def test_a_changed_byte_in_a_checkpoint_is_noticed(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(Volume(tmp_path), gpt2_folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointCorruptError, match=r"model\.safetensors"):
        load_model(folder)


def test_a_tokenizer_that_the_checkpoint_was_not_trained_with_is_refused(
    gpt2_folder: Path, tmp_path: Path
) -> None:
    folder = write_checkpoint(Volume(tmp_path), gpt2_folder)
    edit_json(folder / MANIFEST_NAME, tokenizer_sha256="0" * 64)
    with pytest.raises(CheckpointCorruptError, match="tokenizer"):
        load_model(folder)


def test_every_end_token_of_generation_config_ends_an_answer(copy: Path) -> None:
    edit_json(copy / "generation_config.json", eos_token_id=[0, 7, 9])
    assert load_model(copy).end_ids == {0, 7, 9}


def test_an_architecture_that_is_not_on_the_list_is_refused(copy: Path) -> None:
    edit_json(copy / "config.json", architectures=["RwkvForCausalLM"])
    with pytest.raises(ModelUnsupportedError, match="RwkvForCausalLM"):
        load_model(copy)


def test_weights_that_do_not_fit_the_config_are_refused(copy: Path) -> None:
    edit_json(copy / "config.json", n_layer=3)
    with pytest.raises(ModelUnsupportedError, match="absent"):
        load_model(copy)


def test_pickled_weights_are_never_read(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ModelUnsupportedError, match="can't be loaded"):
        load_model(copy)
    with pytest.raises(ModelUnsupportedError, match="safetensors"):
        estimate_bytes(copy)


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["one-more"] = len(tokenizer["model"]["vocab"])
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelUnsupportedError, match=r"385 tokens, its embedding 384 rows"):
        load_model(copy)


def test_a_file_that_is_cut_off_is_an_error_of_ours(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    for read in (load_model, estimate_bytes):
        with pytest.raises(ModelUnsupportedError, match="can't be loaded"):
            read(copy)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_the_size_is_known_before_loading(model_folder: Path, precision: str) -> None:
    loaded = load_model(model_folder, precision=precision)
    assert loaded.precision == precision
    # Scales of int8's rows, and what is added to round numbers, are not in the file.
    assert estimate_bytes(model_folder, precision=precision) == pytest.approx(
        loaded.size_bytes, rel=0.06
    )


def test_checkpoints_with_the_same_tokenizer_share_it(tmp_path: Path, llama_folder: Path) -> None:
    volume, shared = Volume(tmp_path), SharedTokenizers()
    first, second = (write_checkpoint(volume, llama_folder, step=step) for step in (10, 20))
    models = [load_model(folder, open_tokenizer=shared.open) for folder in (first, second)]
    assert models[0].tokenizer is models[1].tokenizer
    settings = first / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("{", '{"x": 1,', 1))
    assert shared.open(first) is not shared.open(second)
