"""Plans: what fits, how long it takes, and what is proposed where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corral.errors import JobTooLargeError, SpecError
from corral.planning.devices import GIB, Device, gpu_named, local_gpu
from corral.planning.pace import Pace, flops_per_token
from corral.planning.plan import Plan, make_plan, needed
from corral.planning.shapes import ModelShape, read_shape
from corral.spec import TrainingSpec

LENGTHS = {100: 500, 400: 100}
LABELS = 60_000
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


@pytest.fixture
def shape(tmp_path: Path) -> ModelShape:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    return read_shape(tmp_path)


def cpu(gib: float) -> Device:
    return Device("cpu", int(gib * GIB), is_gpu=False, is_shared=True)


def plan(shape: ModelShape, device: Device, **fields: Any) -> Plan:
    return make_plan(TrainingSpec.model_validate(fields), shape, device, LENGTHS, LABELS)


def test_the_largest_batch_fits_and_one_more_does_not(shape: ModelShape) -> None:
    device = cpu(8)
    most = plan(shape, device).largest_batch_size
    assert plan(shape, device, batch_size=most).fits
    assert not plan(shape, device, batch_size=most + 1).fits


def test_ranks_of_one_machine_share_its_memory(shape: ModelShape) -> None:
    one, two = plan(shape, cpu(64)), plan(shape, cpu(64), processes=2)
    assert needed(two.memory, two.spec, two.device) == 2 * two.memory.total
    assert needed(one.memory, one.spec, one.device) == one.memory.total


def test_proposals_keep_the_effective_batch(shape: ModelShape) -> None:
    found = plan(shape, cpu(5), batch_size=16, gradient_accumulation_steps=2)
    assert not found.fits
    for proposal in found.proposals:
        changed = found.spec.model_copy(update=dict(proposal.changes))
        assert changed.effective_batch_size == found.spec.effective_batch_size * changed.processes
    fitting = [proposal for proposal in found.proposals if proposal.fits]
    assert fitting
    assert all(p.memory.total <= found.device.memory for p in fitting)


def test_a_run_that_nothing_makes_fit_says_take_a_smaller_model(shape: ModelShape) -> None:
    with pytest.raises(JobTooLargeError) as caught:
        plan(shape, cpu(0.3)).raise_if_too_large()
    assert caught.value.hint == "Take a smaller model."


def test_a_plan_that_fits_raises_nothing(shape: ModelShape) -> None:
    plan(shape, cpu(64)).raise_if_too_large()


def test_a_measured_pace_makes_a_time(shape: ModelShape) -> None:
    found = plan(shape, cpu(64), epochs=1).with_pace(Pace.measured(1000.0))
    assert found.shortest < found.work.tokens / 1000 < found.longest


def test_more_gpus_take_less_time(shape: ModelShape) -> None:
    one = plan(shape, gpu_named("A100-80GB"))
    four = plan(shape, gpu_named("A100-80GB"), processes=4)
    assert four.longest == pytest.approx(one.longest / 4)


def test_a_step_is_six_operations_a_weight_and_token(shape: ModelShape) -> None:
    # Kaplan et al. 2020: 6 N, with N the weights outside the embeddings; short rows, no labels.
    weights = shape.layers * shape.layer_matrix_parameters
    assert flops_per_token(shape, 1, 0.0) == pytest.approx(6 * weights, rel=0.001)


def test_disk_holds_what_is_kept_and_the_one_being_written(shape: ModelShape) -> None:
    found = plan(shape, cpu(64), max_steps=100, checkpoint_every=10, keep_checkpoints=2)
    assert found.checkpoint_bytes == 12 * shape.parameters
    assert found.disk_bytes == 3 * found.checkpoint_bytes


def test_gpus_are_known_by_name() -> None:
    assert gpu_named("h100!").name == "H100"
    assert not gpu_named("T4").has_bf16
    with pytest.raises(SpecError, match="H300"):
        gpu_named("H300")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
    ],
)
def test_the_driver_says_which_gpu_is_here(tmp_path: Path, model: str, name: str) -> None:
    folder = tmp_path / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t\t {model}\nIRQ: 1\n")
    found = local_gpu(tmp_path)
    assert found is not None
    assert found.name == name


def test_a_machine_without_a_driver_has_no_gpu(tmp_path: Path) -> None:
    assert local_gpu(tmp_path) is None
