"""That values and arguments have what the messages have: a field that is added to one is missed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from corral.client import events, values
from corral.client.arguments import Sampling
from corral.client.reading import read
from corral.v1 import inference_pb2, trainer_pb2

MESSAGES = {
    values.RowProblem: trainer_pb2.RowProblem,
    values.DatasetReport: trainer_pb2.DatasetReport,
    values.Dataset: trainer_pb2.Dataset,
    values.Progress: trainer_pb2.Progress,
    values.Failure: trainer_pb2.Failure,
    values.Checkpoint: trainer_pb2.Checkpoint,
    values.Spending: trainer_pb2.Spending,
    values.JobValues: trainer_pb2.TrainingJob,
    events.StateChange: trainer_pb2.StateChange,
    events.Metrics: trainer_pb2.Metrics,
    events.LogLine: trainer_pb2.LogLine,
    events.SampleAnswer: trainer_pb2.SampleAnswer,
    events.Evaluation: trainer_pb2.Evaluation,
    events.Event: trainer_pb2.TrainingEvent,
    values.MemoryPlan: trainer_pb2.MemoryPlan,
    values.PlanProposal: trainer_pb2.PlanProposal,
    values.Plan: trainer_pb2.TrainingPlan,
    values.Model: inference_pb2.Model,
    values.Finish: inference_pb2.Finish,
    values.ServerInfo: trainer_pb2.GetServerResponse,
}


@pytest.mark.parametrize(("value", "message"), MESSAGES.items(), ids=lambda cls: cls.__name__)
def test_a_value_has_its_messages_fields_and_reads_an_empty_one(value: Any, message: Any) -> None:
    assert [one.name for one in fields(value)] == [
        field.name for field in message.DESCRIPTOR.fields
    ]
    assert isinstance(read(value, message()), value)


def test_every_state_of_a_job_is_named_in_its_type() -> None:
    known = {name.removeprefix("JOB_STATE_").lower() for name, _ in trainer_pb2.JobState.items()}
    assert set(values.JobState.__args__) == known - {"unspecified"}  # type: ignore[attr-defined]


def test_every_sampling_option_can_be_given_but_the_one_that_text_can_not_show() -> None:
    sent = {field.name for field in inference_pb2.SamplingOptions.DESCRIPTOR.fields}
    assert set(Sampling.__annotations__) == sent - {"logprobs"}


def test_times_are_datetimes_and_seconds() -> None:
    job = trainer_pb2.TrainingJob()
    job.created_at.FromJsonString("2026-11-24T13:00:00Z")
    job.progress.time_left.FromMilliseconds(1500)

    found = read(values.JobValues, job)

    assert found.created_at is not None
    assert found.created_at.isoformat() == "2026-11-24T13:00:00+00:00"
    assert found.progress is not None
    assert found.progress.time_left == 1.5
    assert found.started_at is None
