"""Jobs through the trainer's door: admitted, watched, cancelled, deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fakes import MemoryJobStore
from tests.trainer_builders import CONTEXT, ROWS, jsonl, trainer, upload, write_base

from corral import __version__
from corral.data.prepared import Examples
from corral.errors import (
    ConflictError,
    DatasetError,
    DatasetNotFoundError,
    InvalidRequestError,
    JobNotFoundError,
    ModelNotFoundError,
    ModelUnsupportedError,
    SpecError,
    TemplateError,
)
from corral.jobs.records import JobState, Logged, Submission
from corral.jobs.redis_store import RedisJobStore
from corral.rpc.channel import translated_errors
from corral.spec import TrainingSpec
from corral.v1 import trainer_pb2 as pb
from corral.volume import Volume

SECONDS = 10


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write_base(tmp_path / "tiny"))


@pytest.fixture
def jobs() -> MemoryJobStore:
    return MemoryJobStore()


async def create(
    stub: Any, base: str, rows: list[Any] | None = None, key: str = "", **spec: Any
) -> pb.TrainingJob:
    """Upload rows and create a job on them."""
    dataset = await upload(stub, jsonl(rows or ROWS))
    request = pb.CreateTrainingJobRequest(
        dataset_id=dataset.id,
        spec=pb.TrainingSpec(**({"model": base} | spec)),
        idempotency_key=key,
    )
    with translated_errors():
        return (await stub.CreateTrainingJob(request)).job


# ---------------------------------------------------------------- admission


async def test_a_job_is_queued_with_every_default_filled_in(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base, epochs=2, suffix="cat")
        shown = (await stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id=job.id))).job
    assert shown == job
    assert job.state == pb.JOB_STATE_QUEUED
    assert (job.spec.epochs, job.spec.batch_size) == (2, TrainingSpec().batch_size)
    assert (await jobs.get(job.id)).spec.suffix == "cat"


async def test_the_default_length_is_lowered_to_the_models_context(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        assert (await create(stub, base)).spec.max_length == CONTEXT


async def test_a_length_that_was_asked_for_and_does_not_fit_is_refused_with_both_numbers(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(SpecError, match=f"max_length: 5000 is more than the {CONTEXT}"):
            await create(stub, base, max_length=5000)


async def test_an_impossible_spec_is_refused_field_by_field(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(SpecError, match=r"epochs: 0 .*suffix"):
            await create(stub, base, epochs=0, suffix="Not Allowed")


async def test_a_data_set_that_is_not_there_is_refused(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    request = pb.CreateTrainingJobRequest(dataset_id="a" * 64, spec=pb.TrainingSpec(model=base))
    async with trainer(jobs, volume) as stub:
        with pytest.raises(DatasetNotFoundError), translated_errors():
            await stub.CreateTrainingJob(request)


async def test_a_data_set_with_a_bad_row_is_refused_with_the_row(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(DatasetError, match="row 6"):
            await create(stub, base, [*ROWS, {"instruction": "No answer."}])
    assert (await jobs.list_page(10)).jobs == ()


async def test_a_row_whose_answer_would_be_cut_away_is_refused(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    long = {"instruction": "word " * 500, "output": "ok"}
    async with trainer(jobs, volume) as stub:
        with pytest.raises(DatasetError, match=r"row 6.*max_length"):
            await create(stub, base, [*ROWS, long])
        # The same again comes from what was remembered, with the same words.
        with pytest.raises(DatasetError, match=r"row 6.*max_length"):
            await create(stub, base, [*ROWS, long])


async def test_what_was_checked_once_for_a_template_is_checked_anew_for_another(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    rows = [*ROWS, {"instruction": "word " * 24, "output": "ok"}]
    async with trainer(jobs, volume) as stub:
        await create(stub, base, rows, preamble="Go.")
        with pytest.raises(DatasetError, match="max_length"):
            await create(stub, base, rows, preamble="Go on and on. " * 60)


async def test_the_tokens_that_a_check_counted_are_there_for_the_run_and_go_with_the_data_set(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base)
        (folder,) = volume.dataset(job.dataset_id).glob("prepared-*")
        examples = Examples.open(folder)
        assert examples is not None
        assert len(examples) == len(ROWS)
        del examples
        await stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job.id))
        await stub.DeleteDataset(pb.DeleteDatasetRequest(dataset_id=job.dataset_id))
    assert not folder.exists()


async def test_a_model_that_is_not_there_is_refused(
    jobs: MemoryJobStore, volume: Volume, tmp_path: Path
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(ModelNotFoundError):
            await create(stub, str(tmp_path / "nowhere"))


async def test_a_model_of_another_architecture_is_refused(
    jobs: MemoryJobStore, volume: Volume, tmp_path: Path
) -> None:
    bert = write_base(tmp_path / "bert", architectures=["BertForMaskedLM"])
    async with trainer(jobs, volume) as stub:
        with pytest.raises(ModelUnsupportedError, match="BertForMaskedLM"):
            await create(stub, str(bert))


async def test_a_template_that_does_not_fit_is_refused(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(TemplateError, match="no chat template"):
            await create(stub, base, template="model")


async def test_a_folder_is_recorded_by_its_whole_path(
    jobs: MemoryJobStore, volume: Volume, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(base).parent)
    async with trainer(jobs, volume) as stub:
        assert (await create(stub, "./tiny")).spec.model == base


async def test_the_same_key_is_the_same_job_and_another_request_with_it_is_refused(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        first = await create(stub, base, key="k1")
        assert (await create(stub, base, key="k1")).id == first.id
        with pytest.raises(ConflictError):
            await create(stub, base, key="k1", epochs=7)
        assert (await create(stub, base, key="k2")).id != first.id


# ---------------------------------------------------------------- the rest of a job's life


async def test_jobs_are_listed_newest_first_by_state_and_in_pages(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        ids = [(await create(stub, base)).id for _ in range(3)]
        await stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=ids[1]))
        first = await stub.ListTrainingJobs(pb.ListTrainingJobsRequest(page_size=2))
        second = await stub.ListTrainingJobs(
            pb.ListTrainingJobsRequest(page_size=2, page_token=first.next_page_token)
        )
        ended = await stub.ListTrainingJobs(
            pb.ListTrainingJobsRequest(states=[pb.JOB_STATE_CANCELLED])
        )
    assert [job.id for page in (first, second) for job in page.jobs] == ids[::-1]
    assert second.next_page_token == ""
    assert [job.id for job in ended.jobs] == [ids[1]]


async def test_a_page_that_would_not_fit_into_a_message_is_shorter(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    big = TrainingSpec(template="jinja", template_source="x" * 65_536)
    for number in range(100):
        await jobs.submit(Submission(id=f"job-{number}", spec=big, dataset_id="d" * 64))
    ids: list[str] = []
    async with trainer(jobs, volume) as stub:
        request = pb.ListTrainingJobsRequest(page_size=1000)
        while True:
            page = await stub.ListTrainingJobs(request)
            ids += [job.id for job in page.jobs]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    assert ids == [f"job-{number}" for number in reversed(range(100))]


async def test_a_watch_tells_all_and_ends_with_the_job(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base)
        stream = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job.id))
        first = await stream.read()
        claimed = await jobs.claim("w", 60)
        assert claimed is not None
        await jobs.record(job.id, claimed.attempt, [Logged(text="hello")])
        await jobs.finish(job.id, claimed.attempt, JobState.SUCCEEDED)
        rest = [response async for response in stream]
        resumed = [
            response.event.number
            async for response in stub.WatchTrainingJob(
                pb.WatchTrainingJobRequest(job_id=job.id, after_event=2)
            )
        ]
    events = [first.event, *(response.event for response in rest)]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state_change.state == pb.JOB_STATE_SUCCEEDED
    assert "hello" in [event.log_line.text for event in events]
    assert resumed == [event.number for event in events][2:]


async def test_a_watch_of_what_is_not_there_is_refused(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(JobNotFoundError), translated_errors():
            async for _ in stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id="job-0")):
                pass
        with pytest.raises(InvalidRequestError), translated_errors():
            await stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id="../secrets"))


class Counting(MemoryJobStore):
    """Counts the watches that are open."""

    open_watches = 0

    async def watch(self, job_id: str, after: int = 0) -> Any:
        self.open_watches += 1
        try:
            async for event in super().watch(job_id, after):
                yield event
        finally:
            self.open_watches -= 1


async def test_a_watch_ends_when_its_client_goes_away(volume: Volume, base: str) -> None:
    jobs = Counting()
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base)
        stream = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job.id))
        await stream.read()
        assert jobs.open_watches == 1
        stream.cancel()
        async with asyncio.timeout(SECONDS):
            while jobs.open_watches:  # noqa: ASYNC110 - no Event tells of it
                await asyncio.sleep(0.01)


async def test_a_running_job_is_cancelled_through_its_worker(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base)
        await jobs.claim("w", 60)
        cancelled = await stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job.id))
        assert cancelled.job.state == pb.JOB_STATE_CANCELLING
        with pytest.raises(ConflictError), translated_errors():
            await stub.DeleteTrainingJob(pb.DeleteTrainingJobRequest(job_id=job.id))


async def test_deleting_an_ended_job_removes_its_checkpoints_and_logs(
    jobs: MemoryJobStore, volume: Volume, base: str
) -> None:
    async with trainer(jobs, volume) as stub:
        job = await create(stub, base)
        for folder in (volume.checkpoints(job.id) / "step-1-a1", volume.run(job.id, 1).path):
            folder.mkdir(parents=True)
            (folder / "file").write_text("x")
        await stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job.id))
        await stub.DeleteTrainingJob(pb.DeleteTrainingJobRequest(job_id=job.id))
        with pytest.raises(JobNotFoundError), translated_errors():
            await stub.GetTrainingJob(pb.GetTrainingJobRequest(job_id=job.id))
    assert list((volume.root / "checkpoints").iterdir()) == []
    assert list((volume.root / "runs").iterdir()) == []


async def test_the_server_says_what_it_is_and_where_inference_listens(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    async with trainer(jobs, volume, inference_port=1234) as stub:
        server = await stub.GetServer(pb.GetServerRequest())
        assert (server.version, server.inference_address) == (__version__, ":1234")
    async with trainer(jobs, volume, inference_address="chat.example:1") as stub:
        assert (await stub.GetServer(pb.GetServerRequest())).inference_address == "chat.example:1"


async def test_everything_works_on_a_real_store_too(
    store: RedisJobStore, volume: Volume, base: str
) -> None:
    async with trainer(store, volume) as stub:
        job = await create(stub, base, key="k")
        stream = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job.id))
        assert (await stream.read()).event.state_change.state == pb.JOB_STATE_QUEUED
        await stub.CancelTrainingJob(pb.CancelTrainingJobRequest(job_id=job.id))
        assert (await stream.read()).event.state_change.state == pb.JOB_STATE_CANCELLED
        assert await stream.read() is grpc.aio.EOF
        await stub.DeleteTrainingJob(pb.DeleteTrainingJobRequest(job_id=job.id))
        await stub.DeleteDataset(pb.DeleteDatasetRequest(dataset_id=job.dataset_id))
