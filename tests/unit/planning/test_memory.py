"""The planner's activations, against what autograd keeps, for every architecture."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

from corral.planning.devices import Device, this_machine
from corral.planning.memory import Memory, activation_bytes, peak_memory
from corral.planning.shapes import read_shape
from corral.planning.workload import ATTENTION_BLOCK, workload
from corral.spec import TrainingSpec

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}
_GPT2 = {"n_embd": 64, "n_head": 4, "n_positions": 512, "vocab_size": 300}
_STILL = {"attn_pdrop": 0.0, "resid_pdrop": 0.0}
FAMILIES = [
    ("GPT2", _GPT2),
    ("GPT2", {**_GPT2, **_STILL}),
    ("Llama", _SIZES),
    ("Mistral", _SIZES),
    ("Qwen2", _SIZES),
    ("Qwen3", _SIZES),
    ("Gemma3", _SIZES),
]
DOCUMENTS, LENGTH = 6, 48


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "fields"), FAMILIES)
@pytest.mark.parametrize("recomputes", [False, True])
def test_activations_are_what_autograd_keeps(
    tmp_path: Path, family: str, fields: dict[str, Any], dtype: str, recomputes: bool
) -> None:
    import torch

    spec = TrainingSpec(gradient_checkpointing=recomputes)
    kept = {}
    for layers in (2, 4):
        model = _model(family, layers, fields, tmp_path)
        kept[layers] = _kept_bytes(model.to(getattr(torch, dtype)), recomputes)
    element = getattr(torch, dtype).itemsize
    counted = {}
    for layers in (2, 4):
        _model(family, layers, fields, tmp_path)
        shape = read_shape(tmp_path)
        counted[layers] = activation_bytes(shape, element, LENGTH, spec) * DOCUMENTS * LENGTH
    # Of two layers, so that embeddings, head and loss drop out.
    assert counted[4] - counted[2] == pytest.approx(kept[4] - kept[2], rel=0.02)


def _model(family: str, layers: int, fields: dict[str, Any], folder: Path) -> Any:
    import transformers

    kind = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
    name = family + ("LMHeadModel" if family == "GPT2" else "ForCausalLM")
    depth = {"n_layer" if family == "GPT2" else "num_hidden_layers": layers}
    config = getattr(transformers, kind)(**fields, **depth, bos_token_id=0, eos_token_id=0)
    config.architectures = [name]
    config.save_pretrained(folder)
    return getattr(transformers, name)(config).train()


def _kept_bytes(model: Any, recomputes: bool) -> int:
    import torch

    from corral.data.examples import TokenizedExample
    from corral.training.batches import make_batch
    from corral.training.model import LabelLoss

    if recomputes:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = LabelLoss(model)
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    examples = [
        # None begins like another: a shared beginning would be kept once.
        TokenizedExample(
            array("I", [(n * 31 + at * 7) % 250 for at in range(LENGTH)]), bytes(LENGTH)
        )
        for n in range(DOCUMENTS)
    ]
    batch = make_batch(examples, torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(batch)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.torch
def test_attention_is_counted_in_the_blocks_that_it_is_computed_in() -> None:
    from corral.planning import memory
    from corral.training import attention, head

    assert attention._BLOCK == ATTENTION_BLOCK
    assert head._CHUNK == memory.LOGIT_ROWS


# ---------------------------------------------------------------- the parts

LENGTHS = {200: 900, 800: 100}


def _memory(folder: Path, **fields: Any) -> Memory:
    (folder / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "intermediate_size": 1536,'
        '"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,'
        '"vocab_size": 49152, "tie_word_embeddings": true}'
    )
    spec = TrainingSpec.model_validate({"precision": "bf16", **fields})
    device = Device("cpu", 10**10, is_gpu=False, is_shared=True)
    return peak_memory(spec, read_shape(folder), device, workload(spec, LENGTHS, 150_000))


def test_a_smaller_forward_pass_keeps_fewer_activations(tmp_path: Path) -> None:
    large, small = _memory(tmp_path, batch_size=4), _memory(tmp_path, batch_size=1)
    assert small.activations == pytest.approx(large.activations / 4, rel=0.05)
    assert (small.weights, small.optimizer) == (large.weights, large.optimizer)


def test_recomputing_keeps_far_fewer(tmp_path: Path) -> None:
    plain = _memory(tmp_path)
    recomputed = _memory(tmp_path, gradient_checkpointing=True)
    assert recomputed.activations < plain.activations / 5


def test_adapters_take_gradients_and_moments_for_themselves_alone(tmp_path: Path) -> None:
    full, lora = _memory(tmp_path), _memory(tmp_path, tuning="lora")
    assert lora.optimizer < full.optimizer / 20
    assert lora.gradients < full.gradients / 20
    assert lora.weights < full.weights / 2


def test_ranks_share_what_fsdp_splits(tmp_path: Path) -> None:
    alone, shared = _memory(tmp_path), _memory(tmp_path, processes=4)
    assert shared.optimizer == pytest.approx(alone.optimizer / 4, rel=0.01)


def test_a_run_that_saves_only_at_its_end_copies_nothing(tmp_path: Path) -> None:
    assert _memory(tmp_path, max_steps=10, checkpoint_every=10).saving == 0
    assert _memory(tmp_path, max_steps=10, checkpoint_every=5).saving > 0


def test_the_sentence_names_the_largest_part_first(tmp_path: Path) -> None:
    memory = _memory(tmp_path)
    assert memory.sentence().startswith("activations ")
    assert memory.total == sum(vars(memory).values())


def test_this_machine_has_memory() -> None:
    assert 2**28 < this_machine().memory < 2**50
    assert this_machine(memory_limit=123).memory == 123
