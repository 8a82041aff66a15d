"""Data sets through the trainer's door: received, reported on, listed, removed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.fakes import MemoryJobStore
from tests.trainer_builders import ROWS, jsonl, trainer, upload

from corral.errors import (
    ConflictError,
    DatasetError,
    DatasetNotFoundError,
    InvalidRequestError,
)
from corral.jobs.records import Submission
from corral.rpc.channel import translated_errors
from corral.spec import TrainingSpec
from corral.trainer.datasets import MAX_CHUNK_BYTES, DatasetStore
from corral.v1 import trainer_pb2 as pb
from corral.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


@pytest.fixture
def jobs() -> MemoryJobStore:
    return MemoryJobStore()


async def test_an_upload_is_named_by_its_hash_and_stored_as_it_was(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    data = jsonl(ROWS)
    async with trainer(jobs, volume) as stub:
        dataset = await upload(stub, data, "C:\\data\\my rows.jsonl", chunk=7)
        request = pb.GetDatasetRequest(dataset_id=dataset.id)
        assert (await stub.GetDataset(request)).dataset == dataset
    assert dataset.id == hashlib.sha256(data).hexdigest()
    assert volume.dataset_rows(dataset.id).read_bytes() == data
    assert (dataset.filename, dataset.size_bytes) == ("my rows.jsonl", len(data))
    assert (dataset.format, dataset.report.rows, dataset.report.usable_rows) == ("alpaca", 6, 6)
    assert [path.name for path in volume.datasets.iterdir()] == [dataset.id]


async def test_the_same_bytes_twice_are_one_data_set(jobs: MemoryJobStore, volume: Volume) -> None:
    async with trainer(jobs, volume) as stub:
        first = await upload(stub, jsonl(ROWS), "first.jsonl")
        second = await upload(stub, jsonl(ROWS), "second.jsonl")
    assert first == second
    assert [path.name for path in volume.datasets.iterdir()] == [first.id]


async def test_a_file_with_mistakes_is_stored_with_a_report_of_them(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    data = jsonl([*ROWS, {"instruction": "No answer."}]) + b"{broken\n"
    async with trainer(jobs, volume) as stub:
        dataset = await upload(stub, data)
    report = dataset.report
    assert (report.rows, report.usable_rows) == (8, 6)
    assert {problem.row for problem in report.problems} == {6, 7}
    assert {problem.line for problem in report.problems} == {7, 8}
    assert {problem.severity for problem in report.problems} == {pb.RowProblem.SEVERITY_ERROR}


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe" * 100, b"[]", b"just prose\n", b"[1, 2]"])
async def test_a_file_without_a_row_is_refused_and_leaves_nothing(
    data: bytes, jobs: MemoryJobStore, volume: Volume
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(DatasetError, match=r"rows\.jsonl holds no row"), translated_errors():
            await upload(stub, data)
    assert list(volume.datasets.iterdir()) == []


async def test_a_chunk_that_is_too_big_is_refused(jobs: MemoryJobStore, volume: Volume) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(InvalidRequestError, match="chunk"), translated_errors():
            await upload(stub, b" " * (1024 * 1024 + 1), chunk=2 * 1024 * 1024)
    assert list(volume.datasets.iterdir()) == []


async def test_a_file_above_the_limit_is_refused_before_it_has_all_arrived(volume: Volume) -> None:
    taken = 0

    async def chunks():  # type: ignore[no-untyped-def]
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    with pytest.raises(InvalidRequestError, match="bigger than 1000 bytes"):
        await DatasetStore(volume, max_bytes=1000).receive("endless", chunks())
    assert taken == 11
    assert list(volume.datasets.iterdir()) == []


async def test_data_sets_are_listed_newest_first_in_pages(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    async with trainer(jobs, volume) as stub:
        uploaded = [(await upload(stub, jsonl(ROWS[: n + 1]))).id for n in range(5)]
        listed: list[str] = []
        token = ""
        while True:
            request = pb.ListDatasetsRequest(page_size=2, page_token=token)
            page = await stub.ListDatasets(request)
            assert len(page.datasets) <= 2
            listed += [dataset.id for dataset in page.datasets]
            token = page.next_page_token
            if not token:
                break
            # What is removed meanwhile confuses no page.
            await stub.DeleteDataset(pb.DeleteDatasetRequest(dataset_id=listed[-1]))
    assert listed == uploaded[::-1]


async def test_a_foreign_page_token_is_refused(jobs: MemoryJobStore, volume: Volume) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(InvalidRequestError, match="page token"), translated_errors():
            await stub.ListDatasets(pb.ListDatasetsRequest(page_token="nonsense"))


async def test_a_data_set_in_use_stays(jobs: MemoryJobStore, volume: Volume) -> None:
    async with trainer(jobs, volume) as stub:
        dataset = await upload(stub, jsonl(ROWS))
        await jobs.submit(Submission(id="job-1", spec=TrainingSpec(), dataset_id=dataset.id))
        request = pb.DeleteDatasetRequest(dataset_id=dataset.id)
        with pytest.raises(ConflictError, match="by 1 job: job-1"), translated_errors():
            await stub.DeleteDataset(request)
        await jobs.cancel("job-1")
        await stub.DeleteDataset(request)
        with pytest.raises(DatasetNotFoundError), translated_errors():
            await stub.GetDataset(pb.GetDatasetRequest(dataset_id=dataset.id))
    assert list(volume.datasets.iterdir()) == []


async def test_a_download_gives_the_bytes_that_were_uploaded(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    data = jsonl(ROWS) + b" " * (MAX_CHUNK_BYTES + 7)
    async with trainer(jobs, volume) as stub:
        dataset = await upload(stub, data)
        call = stub.DownloadDataset(pb.DownloadDatasetRequest(dataset_id=dataset.id))
        chunks = [response.chunk async for response in call]
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
        with pytest.raises(DatasetNotFoundError), translated_errors():
            async for _ in stub.DownloadDataset(pb.DownloadDatasetRequest(dataset_id="0" * 64)):
                pass


@pytest.mark.parametrize("dataset_id", ["", "../../etc", "A" * 64])
async def test_what_is_no_id_reaches_no_path(
    dataset_id: str, jobs: MemoryJobStore, volume: Volume
) -> None:
    async with trainer(jobs, volume) as stub:
        with pytest.raises(InvalidRequestError, match="not a data set id"), translated_errors():
            await stub.DeleteDataset(pb.DeleteDatasetRequest(dataset_id=dataset_id))


async def test_what_a_killed_server_half_removed_is_gone_after_its_start(
    jobs: MemoryJobStore, volume: Volume
) -> None:
    (volume.datasets / ".trash-abc").mkdir(parents=True)
    (volume.datasets / ".upload-fresh").mkdir()
    async with trainer(jobs, volume) as stub:
        assert list((await stub.ListDatasets(pb.ListDatasetsRequest())).datasets) == []
    # Another server's upload may still be arriving.
    assert [path.name for path in volume.datasets.iterdir()] == [".upload-fresh"]
