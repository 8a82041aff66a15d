from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from tests.unit.cli.builders import state, step
from tests.unit.cli.fake_server import FakeInference, FakeTrainer

import corral
from corral.errors import (
    ConflictError,
    InvalidRequestError,
    ModelNotFoundError,
    SpecError,
    TrainingDivergedError,
)
from corral.v1 import inference_pb2, trainer_pb2


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    return tmp_path / "rows.jsonl"


def test_a_file_is_uploaded_and_trained_on_in_one_call(
    client: corral.Client, trainer: FakeTrainer, rows: Path
) -> None:
    heard: list[tuple[int, int]] = []

    job = client.train(rows, model="gpt2", epochs=2, on_bytes=lambda *bytes_: heard.append(bytes_))

    [request] = trainer.creations
    assert {field.name: value for field, value in request.spec.ListFields()} == {
        "model": "gpt2",
        "epochs": 2,
    }
    assert job.state == "queued"
    assert job.spec["batch_size"] == 4
    size = rows.stat().st_size
    assert heard == [(size, size)]


def test_a_data_set_is_trained_on_without_another_upload(
    client: corral.Client, trainer: FakeTrainer, rows: Path
) -> None:
    dataset = client.upload(rows)
    trainer.upload_name = ""

    client.train(dataset, metadata={"who": "me"})
    client.train(dataset.id)

    assert trainer.upload_name == ""
    first, second = trainer.creations
    assert first.dataset_id == second.dataset_id == dataset.id
    assert first.metadata["who"] == "me"
    assert first.idempotency_key != second.idempotency_key


def test_an_impossible_spec_is_refused_before_the_upload(
    client: corral.Client, trainer: FakeTrainer, rows: Path
) -> None:
    with pytest.raises(SpecError, match="epoch"):
        client.train(rows, epoch=2)

    assert trainer.chunk_sizes == []


def test_a_watched_job_gives_values_until_its_end(
    client: corral.Client, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "RUNNING")
    trainer.events = [state(1, "RUNNING"), step(2, 9, 3, loss=1.5), state(3, "SUCCEEDED")]

    events = list(client.job("job-1").watch())

    assert [event.number for event in events] == [1, 2, 3]
    assert events[0].metrics is None
    assert events[1].metrics is not None
    assert events[1].metrics.progress is not None
    assert events[1].metrics.progress.loss == 1.5
    assert events[1].metrics.progress.eval_loss is None
    assert events[2].state_change is not None
    assert events[2].state_change.state == "succeeded"


def test_waiting_returns_the_job_as_it_ended(client: corral.Client, trainer: FakeTrainer) -> None:
    checkpoint = trainer_pb2.Checkpoint(model="ft:gpt2::job-1:ckpt-step-4", step=4, is_best=True)
    trainer.add_job("job-1", "SUCCEEDED", checkpoints=[checkpoint])
    trainer.events = [state(1, "SUCCEEDED")]

    job = client.job("job-1").wait()

    assert job.has_ended
    assert job.checkpoints[0].model == "ft:gpt2::job-1:ckpt-step-4"
    assert job.best_checkpoint == job.checkpoints[0]


def test_waiting_for_a_job_that_failed_raises_its_error(
    client: corral.Client, trainer: FakeTrainer
) -> None:
    failure = trainer_pb2.Failure(code="TRAINING_DIVERGED", message="The loss is nan.")
    trainer.add_job("job-1", "FAILED", failure=failure)
    trainer.add_job("job-2", "CANCELLED")

    with pytest.raises(TrainingDivergedError, match="The loss is nan"):
        client.job("job-1").wait()
    with pytest.raises(ConflictError):
        client.job("job-2").wait()
    assert client.job("job-1").wait(check=False).failure is not None


def test_a_job_never_changes_and_what_does_something_returns_it_anew(
    client: corral.Client, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "RUNNING")
    job = client.job("job-1")

    cancelled = job.cancel()

    assert (job.state, cancelled.state, job.refresh().state) == (
        "running",
        "cancelled",
        "cancelled",
    )
    cancelled.delete()
    assert trainer.jobs == {}


def test_lists_are_fetched_only_as_far_as_they_are_read(
    client: corral.Client, trainer: FakeTrainer
) -> None:
    for number in range(450):
        trainer.add_job(f"job-{number}", "RUNNING" if number % 2 else "QUEUED")

    assert len(list(islice(client.jobs(), 10))) == 10
    assert trainer.page_sizes == [200]
    assert len(list(client.jobs("running"))) == 225
    assert len(list(client.jobs(limit=3))) == 3


def test_an_answer_comes_in_pieces_and_then_says_how_it_ended(
    client: corral.Client, inference: FakeInference
) -> None:
    inference.finish = inference_pb2.Finish(
        reason=inference_pb2.FINISH_REASON_LENGTH, completion_tokens=2
    )
    answer = client.chat("gpt2", "Is it so?", max_tokens=2, stop=["\n"])

    assert answer.finish is None
    assert list(answer) == ["It is ", "so."]
    assert answer.text == "It is so."
    assert answer.finish is not None
    assert (answer.finish.reason, answer.finish.completion_tokens) == ("length", 2)

    [request] = inference.requests
    assert request.messages[0].role == inference_pb2.ROLE_USER
    assert request.sampling.max_tokens == 2
    assert not request.sampling.HasField("temperature")
    assert not request.HasField("prompt_template")


def test_turns_and_another_prompt_go_out_as_given(
    client: corral.Client, inference: FakeInference
) -> None:
    answer = client.chat(
        "gpt2",
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Sum it up.", "input": "A text."},
        ],
        preamble="Below is an instruction.",
    ).text

    assert answer == "It is so."
    [request] = inference.requests
    assert [turn.content for turn in request.messages] == ["Be brief.", "Sum it up."]
    assert request.messages[1].input == "A text."
    assert request.prompt_template.template == "alpaca"
    assert request.prompt_template.preamble == "Below is an instruction."


def test_an_answer_that_is_closed_ends_its_call(
    client: corral.Client, inference: FakeInference
) -> None:
    answer = client.chat("gpt2", "endless")
    assert next(answer) == "on and on "

    answer.close()

    assert inference.cancelled.wait(10)
    assert answer.text == "on and on "


def test_what_no_server_could_answer_is_refused_here(client: corral.Client) -> None:
    with pytest.raises(InvalidRequestError, match="temperature"):
        client.chat("gpt2", "Hm?", temperature=9)
    with pytest.raises(InvalidRequestError, match="idle"):
        client.jobs("idle")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="boss"):
        client.chat("gpt2", [{"role": "boss", "content": "Hm?"}])  # type: ignore[typeddict-item]


def test_models_are_listed_and_found_by_name(client: corral.Client) -> None:
    assert [model.name for model in client.models()] == ["gpt2"]
    assert client.model("gpt2").is_base
    with pytest.raises(ModelNotFoundError):
        client.model("gpt3")


def test_the_key_goes_with_every_call(address: str, trainer: FakeTrainer) -> None:
    with corral.Client(address, key="k-123") as client:
        assert client.server().version == "9.9.9"

    assert trainer.authorizations == ["Bearer k-123"]


def test_a_schema_may_be_given_as_json_loads_makes_it(
    client: corral.Client, inference: FakeInference
) -> None:
    assert client.chat("gpt2", "Hm?", json_schema={"type": "object"}).text

    assert inference.requests[0].sampling.json_schema == '{"type": "object"}'
