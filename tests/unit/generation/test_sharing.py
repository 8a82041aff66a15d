"""Checkpoints that were trained by LoRA on one base share its weights, and answer as if they did not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.checkpoint_builders import write_lora_checkpoint
from tests.tiny_models import tiny_gemma3, tiny_gpt2, tiny_llama, tiny_qwen3

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from corral.errors import ModelNotFoundError
from corral.generation.answers import Piece
from corral.generation.generating import generate
from corral.generation.loading import LoadedModel, estimate_bytes, load_model
from corral.generation.prompts import raw_prompt
from corral.generation.sharing import SharedBases
from corral.sampling import SamplingOptions
from corral.volume import Volume

GREEDY = SamplingOptions(temperature=0, max_tokens=40, loop_guard=False)
BUILDERS = {
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
    "qwen3": tiny_qwen3,
    "gemma3": tiny_gemma3,
}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def base(volume: Volume) -> Path:
    return tiny_llama(volume.bases / "base")


@pytest.fixture
def bases() -> SharedBases:
    return SharedBases(Path)


def load(folder: Path, bases: SharedBases, precision: str = "fp32") -> LoadedModel:
    return load_model(folder, precision=precision, open_weights=bases.open)


def is_shared(model: LoadedModel, base: Path) -> bool:
    return (base, model.precision) in model.parts


def answer(model: LoadedModel) -> str:
    outputs = generate(model, raw_prompt(model, "Who made you?"), GREEDY)
    return "".join(output.text for output in outputs if isinstance(output, Piece))


@pytest.mark.parametrize("family", BUILDERS)
def test_an_adapter_on_its_base_answers_like_the_merged_weights(
    volume: Volume, bases: SharedBases, family: str
) -> None:
    # With room for the padding token: a new row would take some of the others' likelihood.
    base = BUILDERS[family](volume.bases / family, vocab_size=392)
    checkpoint = write_lora_checkpoint(volume, base)
    shared, merged = load(checkpoint, bases), load_model(checkpoint, precision="fp32")
    assert is_shared(shared, base)
    assert not is_shared(merged, base)
    assert answer(shared) == answer(merged)
    tokens = list(range(3, 40))
    found, expected, untrained = (
        model.decoder.score(tokens, 1) for model in (shared, merged, load(base, bases))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, untrained, atol=0.1)


@pytest.mark.parametrize("targets", ["q_proj,v_proj", "k_proj", "up_proj", "down_proj,o_proj"])
def test_an_adapter_of_some_layers_changes_only_these(
    volume: Volume, base: Path, bases: SharedBases, targets: str
) -> None:
    checkpoint = write_lora_checkpoint(volume, base, lora_targets=targets)
    shared = load(checkpoint, bases)
    assert is_shared(shared, base)
    assert answer(shared) == answer(load_model(checkpoint, precision="fp32"))


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_the_base_may_be_rounded_below_its_adapters(
    volume: Volume, base: Path, bases: SharedBases, precision: str
) -> None:
    model = load(write_lora_checkpoint(volume, base), bases, precision)
    assert is_shared(model, base)
    assert answer(model)


def test_two_adapters_and_their_base_take_little_more_than_the_base(
    volume: Volume, base: Path, bases: SharedBases
) -> None:
    alone = load(base, bases)
    first = load(write_lora_checkpoint(volume, base, step=1, seed=1), bases)
    second = load(write_lora_checkpoint(volume, base, step=2, seed=2), bases)
    together = {**alone.parts, **first.parts, **second.parts}
    own = sum(together.values()) - alone.size_bytes
    assert len(together) == 3
    assert 0 < own < alone.size_bytes
    assert len({answer(model) for model in (alone, first, second)}) == 3


def test_the_base_stays_as_long_as_one_of_its_adapters(
    volume: Volume, base: Path, bases: SharedBases
) -> None:
    first = load(write_lora_checkpoint(volume, base, step=1), bases)
    # It could not be opened again.
    (base / "model.safetensors").write_bytes(b"")
    held = bases.open(base, first.precision, torch.device("cpu"))
    assert first.parts.items() >= held.parts.items()


def test_what_loading_will_take_is_known_before(
    volume: Volume, base: Path, bases: SharedBases
) -> None:
    checkpoint = write_lora_checkpoint(volume, base)
    model = load(checkpoint, bases)
    expected = bases.parts_of(
        checkpoint, model.precision, lambda folder: estimate_bytes(folder, precision="fp32")
    )
    assert expected.keys() == model.parts.keys()
    assert sum(expected.values()) == pytest.approx(model.size_bytes, rel=0.1)


# ---------------------------------------------------------------- where it can't be shared


def test_on_another_base_of_the_same_name_the_merged_weights_answer(
    volume: Volume, base: Path, bases: SharedBases
) -> None:
    checkpoint = write_lora_checkpoint(volume, base)
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    model = load(checkpoint, bases)
    assert not is_shared(model, base)
    assert answer(model) == answer(load_model(checkpoint, precision="fp32"))


def test_without_its_base_the_merged_weights_answer(volume: Volume, base: Path) -> None:
    def find(name: str) -> Path:
        raise ModelNotFoundError(f"There is no {name}.")

    model = load(write_lora_checkpoint(volume, base), SharedBases(find))
    assert list(model.parts.values()) == [model.size_bytes]


def test_an_adapter_of_another_kind_is_answered_by_the_merged_weights(
    volume: Volume, base: Path, bases: SharedBases
) -> None:
    checkpoint = write_lora_checkpoint(volume, base)
    file = checkpoint / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"use_dora": True}))
    opened = bases.open(
        checkpoint, load_model(base, precision="fp32").precision, torch.device("cpu")
    )
    assert [key[0] for key in opened.parts] == [checkpoint]
