from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.cli.builders import state, step
from tests.unit.cli.fake_server import FakeInference, FakeTrainer

import corral
from corral.errors import CorralError, DatasetError, TrainingCrashedError
from corral.v1 import trainer_pb2


@pytest.fixture
async def client(address: str) -> AsyncIterator[corral.AsyncClient]:
    async with corral.AsyncClient(address, patience_seconds=5) as client:
        yield client


async def test_a_file_is_uploaded_and_trained_on_in_one_call(
    client: corral.AsyncClient, trainer: FakeTrainer, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 1_500_000)
    heard: list[tuple[int, int]] = []

    job = await client.train(
        path, epochs=2, on_bytes=lambda *bytes_: heard.append(bytes_), metadata={"who": "me"}
    )

    assert job.state == "queued"
    assert trainer.upload == path.read_bytes()
    assert trainer.creations[0].metadata["who"] == "me"
    assert heard == [(1_048_576, 1_500_000), (1_500_000, 1_500_000)]


async def test_a_creation_whose_answer_was_lost_makes_one_job(
    client: corral.AsyncClient, trainer: FakeTrainer
) -> None:
    trainer.lost_creations = 2

    job = await client.train("d" * 64)

    assert len(trainer.creations) == 3
    assert list(trainer.jobs) == [job.id]


async def test_a_file_that_cannot_be_read_is_named(
    client: corral.AsyncClient, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jsonl"):
        await client.upload(tmp_path / "gone.jsonl")


async def test_a_lost_watch_goes_on_behind_its_last_event(
    client: corral.AsyncClient, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1")
    trainer.events = [state(1, "QUEUED"), step(2, 2, 1), step(3, 2, 2), state(4, "SUCCEEDED")]
    trainer.losses = [(1, "lost"), (0, "lost"), (2, "lost")]
    lost: list[CorralError] = []

    job = await client.job("job-1")
    events = [event async for event in job.watch(on_lost=lost.append)]

    assert [event.number for event in events] == [1, 2, 3, 4]
    assert trainer.watches == [0, 1, 1, 3]
    assert len(lost) == 2  # once for each gap


async def test_waiting_for_a_job_that_failed_raises_its_error(
    client: corral.AsyncClient, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "FAILED", failure=trainer_pb2.Failure(message="It was killed."))
    trainer.events = [state(1, "FAILED")]

    job = await client.job("job-1")
    with pytest.raises(TrainingCrashedError, match="It was killed"):
        await job.wait()
    assert (await job.wait(check=False)).has_ended


async def test_an_answer_comes_in_pieces_and_then_says_how_it_ended(
    client: corral.AsyncClient,
) -> None:
    answer = client.chat("gpt2", "Is it so?")

    assert [piece async for piece in answer] == ["It is ", "so."]
    assert await answer.text() == "It is so."
    assert answer.finish is not None
    assert answer.finish.completion_tokens == 2


async def test_an_answer_that_is_closed_ends_its_call(
    client: corral.AsyncClient, inference: FakeInference
) -> None:
    answer = client.chat("gpt2", "endless")
    assert await anext(answer) == "on and on "

    await answer.close()

    assert await asyncio.to_thread(inference.cancelled.wait, 10)


async def test_lists_end_at_their_limit(client: corral.AsyncClient, trainer: FakeTrainer) -> None:
    for number in range(5):
        trainer.add_job(f"job-{number}", "RUNNING" if number % 2 else "QUEUED")

    assert len([job async for job in client.jobs(limit=3)]) == 3
    assert [job.id async for job in client.jobs("running")] == ["job-1", "job-3"]
    assert [model.name for model in await client.models()] == ["gpt2"]
    assert (await client.server()).version == "9.9.9"
