"""Plans through the trainer's door, and jobs that are refused because they can't fit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import MemoryJobStore
from tests.tiny_models import tiny_gpt2
from tests.trainer_builders import ROWS, jsonl, trainer, upload, write_base

from corral.errors import JobTooLargeError, ModelNotFoundError, SpecError
from corral.rpc.channel import translated_errors
from corral.settings import Settings
from corral.trainer.measuring import Measuring
from corral.trainer.planning import Planner
from corral.v1 import trainer_pb2 as pb
from corral.volume import Volume

# A model of eight billion parameters, of which a plan reads the config alone.
LARGE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "n_positions": None,
    "max_position_embeddings": 8192,
}
GIB = 1024**3


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def small(tmp_path: Path) -> str:
    return str(write_base(tmp_path / "small"))


@pytest.fixture
def large(tmp_path: Path) -> str:
    return str(write_base(tmp_path / "large", **LARGE))


async def plan(stub: Any, model: str, device: str = "", **spec: Any) -> pb.TrainingPlan:
    dataset = await upload(stub, jsonl(ROWS))
    request = pb.PlanTrainingJobRequest(
        dataset_id=dataset.id, spec=pb.TrainingSpec(model=model, **spec), device=device
    )
    with translated_errors():
        return (await stub.PlanTrainingJob(request)).plan


async def test_a_plan_says_steps_memory_and_disk(volume: Volume, small: str) -> None:
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await plan(stub, small, epochs=2, batch_size=1, gradient_accumulation_steps=1)
    assert found.fits
    assert found.device == "cpu"
    assert (found.rows, found.steps) == (len(ROWS), 2 * len(ROWS))
    parts = found.memory
    whole = sum(getattr(parts, f.name) for f in parts.DESCRIPTOR.fields if f.name != "total")
    assert parts.total == whole == found.needed
    assert found.checkpoint_size == 12 * found.parameters
    assert found.largest_batch_size >= 1
    # There are no weights to measure with, and a CPU has no data sheet.
    assert found.time_source == ""


async def test_a_gpu_has_a_time_from_its_data_sheet(volume: Volume, large: str) -> None:
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await plan(stub, large, "H200", tuning="lora", max_length=512)
    assert found.fits
    assert found.time_source == "data sheet"
    assert found.longest.ToTimedelta() > found.shortest.ToTimedelta()
    assert found.trainable_parameters < found.parameters / 100


async def test_what_does_not_fit_is_told_what_would(volume: Volume, large: str) -> None:
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await plan(stub, large, "A100-80GB", max_length=512)
    assert not found.fits
    assert found.needed > found.device_memory
    fitting = {proposal.changes.tuning: proposal for proposal in found.proposals if proposal.fits}
    assert "lora" in fitting
    assert any(proposal.changes.processes == 8 for proposal in found.proposals)
    assert all(p.memory.total <= found.device_memory for p in found.proposals if p.fits)


async def test_a_gpu_that_nobody_knows_is_refused(volume: Volume, small: str) -> None:
    async with trainer(MemoryJobStore(), volume) as stub:
        with pytest.raises(SpecError, match="A1000") as caught:
            await plan(stub, small, "A1000")
    assert "A100-80GB" in caught.value.hint


async def test_a_plan_checks_what_a_job_is_checked_for(volume: Volume) -> None:
    async with trainer(MemoryJobStore(), volume) as stub:
        with pytest.raises(ModelNotFoundError):
            await plan(stub, "/nowhere")


async def test_a_job_that_cannot_fit_is_refused_before_it_queues(
    volume: Volume, large: str
) -> None:
    jobs = MemoryJobStore()
    async with trainer(jobs, volume) as stub:
        dataset = await upload(stub, jsonl(ROWS))
        request = pb.CreateTrainingJobRequest(
            dataset_id=dataset.id, spec=pb.TrainingSpec(model=large)
        )
        with pytest.raises(JobTooLargeError, match="optimizer") as caught, translated_errors():
            await stub.CreateTrainingJob(request)
    assert "memory, this machine has" in caught.value.message
    assert (await jobs.list_page(10)).jobs == ()


async def test_a_deployment_that_does_not_say_its_device_refuses_nothing(
    volume: Volume, large: str
) -> None:
    async with trainer(MemoryJobStore(), volume, launcher="kubernetes") as stub:
        dataset = await upload(stub, jsonl(ROWS))
        request = pb.CreateTrainingJobRequest(
            dataset_id=dataset.id, spec=pb.TrainingSpec(model=large)
        )
        assert (await stub.CreateTrainingJob(request)).job.state == pb.JOB_STATE_QUEUED
        with pytest.raises(SpecError, match="not known what"):
            await plan(stub, large)


async def test_a_deployment_that_says_its_device_refuses_what_it_can_not_hold(
    volume: Volume, large: str
) -> None:
    settings = {"launcher": "kubernetes", "training_device": "A10"}
    async with trainer(MemoryJobStore(), volume, **settings) as stub:
        dataset = await upload(stub, jsonl(ROWS))
        request = pb.CreateTrainingJobRequest(
            dataset_id=dataset.id, spec=pb.TrainingSpec(model=large)
        )
        with pytest.raises(JobTooLargeError, match="A10 has"), translated_errors():
            await stub.CreateTrainingJob(request)


def test_a_trainer_without_torch_does_not_take_its_own_machine_for_the_workers(
    volume: Volume,
) -> None:
    """In a container of its own it has less memory than any run needs."""
    planner = Planner(Settings(), Measuring(volume), has_torch=False)
    assert planner.device() is None
    assert Planner(Settings(), Measuring(volume), has_torch=True).device() is not None


async def test_a_plan_for_modal_has_a_price_over_all_that_it_may_get(
    volume: Volume, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-test")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-test")
    async with trainer(MemoryJobStore(), volume) as stub:
        one = await plan(stub, small, backend="modal", gpu="H100")
        more = await plan(stub, small, backend="modal", gpu="H100,T4")
    assert one.device == more.device == "H100"
    assert 0 < one.lowest_cost < one.highest_cost < more.highest_cost


async def test_a_modal_gpu_that_cannot_hold_the_run_is_named(
    volume: Volume, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-test")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-test")
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await plan(stub, large, backend="modal", gpu="H100:8,T4", max_length=256)
    assert (found.fits, found.device) == (False, "T4")


@pytest.mark.torch
async def test_a_model_that_is_here_is_measured(volume: Volume) -> None:
    tiny_gpt2(volume.bases / "tiny")
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await plan(stub, "tiny", max_length=128)
    assert found.time_source == "measured"
    assert found.longest.ToTimedelta() > found.shortest.ToTimedelta() > timedelta(0)
