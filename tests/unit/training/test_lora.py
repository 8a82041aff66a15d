"""LoRA: small trained matrices beside frozen weights, saved merged and as peft reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from peft import PeftModel
from safetensors.torch import save_file
from tests.tiny_models import tiny_gpt2, tiny_llama
from transformers import AutoModelForCausalLM

from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.data.vocabulary import check_frozen_embedding
from corral.errors import CheckpointCorruptError, SpecError
from corral.spec import LORA_LEARNING_RATE, TrainingSpec
from corral.training.lora import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    adapter_config,
    add_adapters,
    is_adapter,
    load_adapters,
    load_with_adapters,
)
from corral.training.parallel import Ranks
from corral.training.snapshot import adapter_tensors, as_it_is, model_tensors

BUILDERS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
ALONE = Ranks(0, 1, torch.device("cpu"))
IDS = torch.tensor([[5, 9, 300, 7]])
VOCABULARY = 384


def spec_of(base: Path, **fields: Any) -> TrainingSpec:
    return TrainingSpec(model=str(base), tuning="lora", lora_rank=4, **fields)


def trained(base: Path, dtype: Any = torch.float32, **fields: Any) -> tuple[Any, Any]:
    """The base with adapters whose values are no longer those that change nothing."""
    torch.manual_seed(0)
    model, config = load_with_adapters(spec_of(base, **fields), base, VOCABULARY, dtype, None)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.copy_(torch.randn_like(parameter) / 4)
    return model.eval(), config


def write_adapter(folder: Path, model: Any, config: Any) -> None:
    (folder / ADAPTER_FOLDER).mkdir(parents=True)
    stored = {one.name: one.read() for one in adapter_tensors(model, ALONE, as_it_is)}
    save_file(stored, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_bytes(adapter_config(config))


@pytest.mark.parametrize("family", BUILDERS)
def test_merged_weights_and_the_adapter_give_what_was_trained(tmp_path: Path, family: str) -> None:
    base = BUILDERS[family](tmp_path / "base")
    model, config = trained(base)
    write_adapter(tmp_path / "checkpoint", model, config)
    plain: Any = AutoModelForCausalLM.from_pretrained(base)
    merged: Any = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        expected, untrained = model(IDS).logits, plain(IDS).logits
        weights = {one.name: one.read() for one in model_tensors(model, ALONE, as_it_is)}
        missing, unknown = merged.load_state_dict(weights, strict=False)
        assert not unknown
        # The tied head.
        assert set(missing) <= {"lm_head.weight"}
        by_peft = PeftModel.from_pretrained(plain, tmp_path / "checkpoint" / ADAPTER_FOLDER)
        assert not torch.allclose(expected, untrained, atol=1e-2)
        torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(by_peft(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_only_adapters_are_trained_and_the_base_is_held_in_the_compute_type(tmp_path: Path) -> None:
    model, _ = trained(tiny_llama(tmp_path / "base"), torch.bfloat16)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == is_adapter(name)
        assert parameter.dtype == (torch.float32 if is_adapter(name) else torch.bfloat16)
    adapted = {
        name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name
    }
    assert len(adapted) == 2 * 7


def test_a_new_adapter_changes_nothing(tmp_path: Path) -> None:
    base = tiny_gpt2(tmp_path / "base")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        before = model.eval()(IDS).logits
        add_adapters(model, spec_of(base))
        torch.testing.assert_close(model.eval()(IDS).logits, before)


def test_targets_can_be_named_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    model, _ = trained(base, lora_targets="q_proj, v_proj")
    names = {name.split(".")[-4] for name, _ in model.named_parameters() if is_adapter(name)}
    assert names == {"q_proj", "v_proj"}
    with pytest.raises(SpecError, match="no linear layer 'c_attn'") as raised:
        trained(base, lora_targets="q_proj,c_attn")
    assert "up_proj" in raised.value.hint


def test_an_adapter_that_does_not_fit_is_a_corrupt_checkpoint(tmp_path: Path) -> None:
    model, config = trained(tiny_llama(tmp_path / "base"))
    write_adapter(tmp_path / "checkpoint", model, config)
    wider, _ = trained(tiny_llama(tmp_path / "wider", hidden_size=64))
    with pytest.raises(CheckpointCorruptError, match="adapter"):
        load_adapters(wider, tmp_path / "checkpoint")
    with pytest.raises(CheckpointCorruptError, match="adapter"):
        load_adapters(model, tmp_path)


def test_a_template_with_tokens_that_the_base_has_never_seen_is_refused(tmp_path: Path) -> None:
    base = tiny_gpt2(tmp_path / "base")
    chatml, alpaca = (
        PromptTemplate.from_spec(spec_of(base, template=name), base)
        for name in ("chatml", "alpaca")
    )
    with pytest.raises(SpecError, match="im_start") as raised:
        check_frozen_embedding(chatml, fit_tokenizer(base, chatml))
    assert "tuning full" in raised.value.hint
    # Its new padding token is never read.
    check_frozen_embedding(alpaca, fit_tokenizer(base, alpaca))


def test_lora_has_a_learning_rate_of_its_own(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert spec.with_learning_rate_for(10**8).learning_rate == LORA_LEARNING_RATE
    given = spec.model_copy(update={"learning_rate": 1e-3})
    assert given.with_learning_rate_for(10**8).learning_rate == 1e-3
