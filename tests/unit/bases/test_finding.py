"""Which folder a model's name means, and which models are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.bases import check_architecture, context_length, find_base, find_tokenizer, list_bases
from corral.bases.architecture import ARCHITECTURES
from corral.errors import ModelNotFoundError, ModelUnsupportedError
from corral.volume import Volume

CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}


def write_model(folder: Path, *, weights: bool = True, **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def test_a_folder_is_itself(volume: Volume, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    assert find_base(str(folder), volume) == find_tokenizer(str(folder), volume) == folder


def test_a_folder_of_the_working_directory(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for name in ("./mine", "mine"):
        assert find_base(name, volume) == folder


def test_a_name_below_the_bases(volume: Volume) -> None:
    folder = write_model(volume.bases / "mine")
    assert find_base("mine", volume) == folder
    assert "mine" in list_bases(volume)


def test_a_name_does_not_lead_out_of_the_bases(volume: Volume) -> None:
    volume.bases.mkdir(parents=True)
    write_model(volume.root / "outside")
    with pytest.raises(ModelNotFoundError):
        find_base("x/../../outside", volume, download=False)


@pytest.mark.parametrize(
    "name", ["", "a b", "x" * 400, "~nobody-here/x", "a\0b", "a/b/c", "a..b", "/no/where"]
)
def test_a_name_that_can_be_no_model_is_not_found(name: str, volume: Volume) -> None:
    with pytest.raises(ModelNotFoundError):
        find_base(name, volume, download=False)


def test_a_hub_id_that_is_not_cached_is_not_found_without_download(volume: Volume) -> None:
    with pytest.raises(ModelNotFoundError, match="not on this machine"):
        find_base("corral-tests/no-such-model", volume, download=False)


def test_only_the_tokenizer_is_needed_to_check_data(volume: Volume) -> None:
    folder = write_model(volume.bases / "mine", weights=False)
    assert find_tokenizer("mine", volume) == folder
    with pytest.raises(ModelUnsupportedError, match="safetensors"):
        find_base("mine", volume)
    assert "mine" not in list_bases(volume)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_on_the_list_are_taken(architecture: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", architectures=[architecture])
    assert check_architecture(folder) == architecture


@pytest.mark.parametrize("named", [["BloomForCausalLM"], [], None, "LlamaForCausalLM"])
def test_other_architectures_are_refused(named: object, tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupportedError, match="is of architecture"):
        check_architecture(write_model(tmp_path / "m", architectures=named))


def test_code_of_the_models_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupportedError, match="Python code"):
        check_architecture(write_model(tmp_path / "m", auto_map={"AutoModel": "x.Y"}))


def test_the_context_length_is_the_configs(tmp_path: Path) -> None:
    assert context_length(write_model(tmp_path / "a")) == 64
    assert context_length(write_model(tmp_path / "b", n_positions=32)) == 32
    with pytest.raises(ModelUnsupportedError):
        context_length(write_model(tmp_path / "c", max_position_embeddings=None))


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_config_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelUnsupportedError):
        check_architecture(tmp_path)
