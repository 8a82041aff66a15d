"""What a model would see of a data set, through the trainer's door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes import MemoryJobStore
from tests.trainer_builders import END_TOKEN, ROWS, jsonl, trainer, upload, write_base

from corral.errors import DatasetNotFoundError
from corral.rpc.channel import translated_errors
from corral.v1 import trainer_pb2 as pb
from corral.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


async def check(stub: Any, dataset: str, base: Path, **spec: Any) -> pb.CheckDatasetResponse:
    request = pb.CheckDatasetRequest(
        dataset_id=dataset, spec=pb.TrainingSpec(model=str(base), **spec)
    )
    with translated_errors():
        return await stub.CheckDataset(request)


async def test_tokens_and_examples_are_those_of_the_model(volume: Volume, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await check(stub, (await upload(stub, jsonl(ROWS))).id, base)
    assert found.report.rows == len(ROWS)
    assert sum(one.rows for one in found.tokens.histogram) == len(ROWS)
    assert 0 < found.tokens.trained < found.tokens.total
    (prompt, answer) = found.examples[0].pieces
    assert (prompt.trained, answer.trained) == (False, True)
    assert answer.text.endswith(END_TOKEN)


async def test_rows_that_no_job_would_take_are_checked_too(volume: Volume, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    faulty = jsonl([*ROWS, {"instruction": "no answer"}])
    async with trainer(MemoryJobStore(), volume) as stub:
        found = await check(stub, (await upload(stub, faulty)).id, base)
    assert found.report.usable_rows == len(ROWS)
    assert found.report.problems[0].line == len(ROWS) + 1
    assert found.examples


async def test_a_data_set_that_is_not_there_is_said(volume: Volume, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    async with trainer(MemoryJobStore(), volume) as stub:
        with pytest.raises(DatasetNotFoundError):
            await check(stub, "0" * 64, base)


async def test_a_quick_plan_waits_for_no_measuring(volume: Volume, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    async with trainer(MemoryJobStore(), volume) as stub:
        dataset = await upload(stub, jsonl(ROWS))
        request = pb.PlanTrainingJobRequest(
            dataset_id=dataset.id, spec=pb.TrainingSpec(model=str(base)), quick=True
        )
        plan = (await stub.PlanTrainingJob(request)).plan
    assert plan.fits
    assert plan.memory.total > 0
    assert plan.time_source == ""
