from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cli.builders import state, step
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving

from corral.client.connection import Connection
from corral.client.wire import CHUNK_BYTES, reachable_from
from corral.errors import (
    CorralError,
    DatasetError,
    HubUnavailableError,
    JobNotFoundError,
    UnavailableError,
)
from corral.v1 import inference_pb2


@pytest.fixture
def client(address: str) -> Iterator[Connection]:
    with Connection(address, patience_seconds=5) as client:
        yield client


def test_a_file_goes_out_in_chunks_that_fit_the_contract(
    client: Connection, trainer: FakeTrainer, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4096 * 2 + b"end"
    (tmp_path / "rows.jsonl").write_bytes(content)
    heard: list[tuple[int, int]] = []

    dataset = client.upload_dataset(tmp_path / "rows.jsonl", lambda *bytes_: heard.append(bytes_))

    assert trainer.upload == content
    assert dataset.filename == "rows.jsonl"
    assert trainer.chunk_sizes == [CHUNK_BYTES, CHUNK_BYTES, 3]
    assert heard[-1] == (len(content), len(content))


def test_an_empty_file_is_uploaded_for_the_server_to_judge(
    client: Connection, trainer: FakeTrainer, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()

    client.upload_dataset(tmp_path / "empty.jsonl")

    assert trainer.upload_name == "empty.jsonl"


def test_a_file_that_cannot_be_read_is_named(client: Connection, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jsonl"):
        client.upload_dataset(tmp_path / "gone.jsonl")


def test_a_creation_whose_answer_was_lost_makes_one_job(
    client: Connection, trainer: FakeTrainer
) -> None:
    trainer.lost_creations = 2

    job = client.create_job("d" * 64, {"epochs": 2}, "a-key-of-this-invocation")

    assert len(trainer.creations) == 3
    assert {request.spec.epochs for request in trainer.creations} == {2}
    assert list(trainer.jobs) == [job.id]


def test_a_model_hub_that_is_away_is_told_at_once_and_not_asked_again(
    client: Connection, trainer: FakeTrainer
) -> None:
    trainer.has_hub = False

    with pytest.raises(HubUnavailableError):
        client.create_job("d" * 64, {}, "a-key-of-this-invocation")

    assert len(trainer.creations) == 1


def test_a_lost_watch_goes_on_behind_its_last_event(
    client: Connection, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1")
    trainer.events = [state(1, "QUEUED"), step(2, 2, 1), step(3, 2, 2), state(4, "SUCCEEDED")]
    trainer.losses = [(1, "lost"), (0, "lost"), (2, "lost")]
    lost: list[CorralError] = []

    events = list(client.watch_job("job-1", on_lost=lost.append))

    assert [event.number for event in events] == [1, 2, 3, 4]
    assert trainer.watches == [0, 1, 1, 3]
    assert len(lost) == 2  # once for each gap


def test_a_watch_that_a_draining_server_ends_early_goes_on(
    client: Connection, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "RUNNING")
    trainer.events = [state(1, "RUNNING"), state(2, "SUCCEEDED")]
    trainer.losses = [(1, "")]

    assert [event.number for event in client.watch_job("job-1")] == [1, 2]


def test_watching_an_ended_job_behind_its_last_event_ends(
    client: Connection, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "SUCCEEDED")
    trainer.events = [state(1, "SUCCEEDED")]

    assert list(client.watch_job("job-1", after=1)) == []


def test_a_watch_gives_up_when_the_server_stays_away(trainer: FakeTrainer) -> None:
    trainer.add_job("job-1")
    trainer.losses = [(0, "lost")] * 100
    trainer.is_gone = True
    with (
        serving(trainer) as address,
        Connection(address, patience_seconds=0.5) as client,
        pytest.raises(UnavailableError),
    ):
        list(client.watch_job("job-1"))


def test_watching_an_unknown_job_fails_at_once(client: Connection) -> None:
    with pytest.raises(JobNotFoundError, match="job-9"):
        list(client.watch_job("job-9"))


def test_a_list_is_read_page_by_page_up_to_its_limit(
    client: Connection, trainer: FakeTrainer
) -> None:
    for number in range(450):
        trainer.add_job(f"job-{number}")

    assert len(client.list_jobs(limit=420)) == 420
    assert trainer.page_sizes == [200, 200, 20]


def test_closing_a_chat_ends_its_call(client: Connection, inference: FakeInference) -> None:
    question = inference_pb2.Message(role=inference_pb2.ROLE_USER, content="endless")
    answer = client.chat("gpt2", [question], inference_pb2.SamplingOptions())
    assert next(answer).text == "on and on "

    answer.close()  # type: ignore[attr-defined]  # a generator

    assert inference.cancelled.wait(10)


def test_a_server_that_is_not_there_is_named_with_a_hint() -> None:
    with Connection("127.0.0.1:1") as client, pytest.raises(UnavailableError) as caught:
        client.list_jobs(1)
    assert "127.0.0.1:1" in caught.value.message
    assert "corral up" in caught.value.hint


@pytest.mark.parametrize(
    ("inference", "trainer", "expected"),
    [
        (":7471", "127.0.0.1:7470", "127.0.0.1:7471"),
        (":7471", "[::1]:7470", "[::1]:7471"),
        (":7471", "unix:/run/corral.sock", "127.0.0.1:7471"),
        ("chat.example:443", "127.0.0.1:7470", "chat.example:443"),
    ],
)
def test_inference_is_reached_where_the_trainer_was(
    inference: str, trainer: str, expected: str
) -> None:
    assert reachable_from(inference, trainer) == expected
