"""The wire's messages and Corral's values say the same, field by field."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from corral.errors import InvalidRequestError
from corral.jobs.records import (
    CheckpointPublished,
    Event,
    EventBody,
    Failure,
    Job,
    JobState,
    Logged,
    Measured,
    Progress,
    PublishedCheckpoint,
    Spending,
    StateChanged,
)
from corral.spec import TrainingSpec, parse_spec
from corral.trainer import convert
from corral.v1 import trainer_pb2 as pb

KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
}

EVERY_FIELD: dict[str, Any] = {
    "model": "gpt2",
    "epochs": 1,
    "max_steps": 7,
    "learning_rate": 0.5,
    "lr_scheduler": "linear",
    "warmup_ratio": 0.25,
    "weight_decay": 0.125,
    "batch_size": 2,
    "gradient_accumulation_steps": 3,
    "max_length": 64,
    "precision": "fp32",
    "max_grad_norm": 0.5,
    "seed": 2**62,
    "fsdp": "none",
    "fsdp_wrap": "Layer",
    "processes": 2,
    "checkpoint_every": 5,
    "keep_checkpoints": 1,
    "template": "alpaca",
    "preamble": "Praise the cat.",
    "suffix": "cat",
    "eval_split": 0.5,
    "eval_every": 10,
    "eval_prompts": 3,
    "eval_max_tokens": 16,
    "early_stopping": "stop_rate",
    "early_stopping_patience": 2,
    "nodes": 2,
    "packing": False,
    "gradient_checkpointing": True,
    "compile": True,
    "tuning": "lora",
    "lora_rank": 4,
    "lora_alpha": 8.0,
    "lora_dropout": 0.25,
    "lora_targets": "q_proj,v_proj",
}

PROGRESS = Progress(
    step=3, total_steps=9, epoch=0.5, loss=2.5, tokens_per_second=7.0, time_left=1.5
)
CHECKPOINT = PublishedCheckpoint(
    step=3, attempt=2, folder="step-3-a2", size_bytes=10, loss=2.5, is_final=True, created_at=5.25
)


def job(**fields: Any) -> Job:
    given = {"state": JobState.RUNNING, "spec": TrainingSpec(suffix="cat")} | fields
    return Job(id="job-1", dataset_id="d" * 64, created_at=1.5, **given)


def kind_of(name: str) -> str:
    """What kind of JSON value the spec takes in a field, None aside."""
    schema = TrainingSpec.model_json_schema()["properties"][name]
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    [kind] = {one["type"] for one in options}
    return str(kind)


def test_the_wires_spec_has_the_fields_of_the_spec_and_their_kinds() -> None:
    wire = {field.name: KINDS[field.cpp_type] for field in pb.TrainingSpec.DESCRIPTOR.fields}
    assert wire == {name: kind_of(name) for name in TrainingSpec.model_fields}


def test_every_field_of_the_wires_spec_may_be_left_out() -> None:
    assert all(field.has_presence for field in pb.TrainingSpec.DESCRIPTOR.fields)


def test_a_spec_survives_the_way_there_and_back() -> None:
    spec = parse_spec(EVERY_FIELD)
    assert parse_spec(convert.spec_fields(convert.spec_to_proto(spec))) == spec


def test_what_a_client_leaves_out_is_left_to_the_spec() -> None:
    assert convert.spec_fields(pb.TrainingSpec(epochs=5)) == {"epochs": 5}


def test_a_zero_that_a_client_sets_is_not_taken_for_unset() -> None:
    assert convert.spec_fields(pb.TrainingSpec(warmup_ratio=0.0)) == {"warmup_ratio": 0.0}


@pytest.mark.parametrize("state", list(JobState))
def test_each_state_has_its_like_on_the_wire(state: JobState) -> None:
    assert convert.states_from_proto([convert.state_to_proto(state)]) == (state,)


def test_the_wire_has_no_state_of_its_own() -> None:
    names = {name.removeprefix("JOB_STATE_") for name in pb.JobState.keys()}  # noqa: SIM118 - no dict
    assert names - {"UNSPECIFIED"} == set(JobState)


@pytest.mark.parametrize("number", [0, 99])
def test_a_state_that_is_none_is_refused(number: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no such state"):
        convert.states_from_proto([number])


def test_a_job_that_has_not_begun_leaves_what_is_not_known_unset() -> None:
    message = convert.job_to_proto(job(state=JobState.QUEUED))
    unset = ("progress", "failure", "started_at", "finished_at")
    assert not any(message.HasField(name) for name in unset)
    assert message.fine_tuned_model == ""
    assert message.spec.epochs == TrainingSpec().epochs
    assert message.effective_batch_size == TrainingSpec().effective_batch_size


def test_queued_and_running_time_arrive_apart() -> None:
    spending = Spending(gpu="A10:2", queued_seconds=90.0, running_seconds=600.5, cost=0.25)
    message = convert.job_to_proto(job(spending=spending))
    assert message.spending.gpu == "A10:2"
    assert message.spending.queued.ToMilliseconds() == 90_000
    assert message.spending.running.ToMilliseconds() == 600_500
    assert message.cost == 0.25
    unpriced = convert.job_to_proto(job(spending=spending.model_copy(update={"cost": None})))
    assert not unpriced.HasField("cost")
    assert not convert.job_to_proto(job()).HasField("spending")


def test_a_jobs_figures_arrive_typed() -> None:
    message = convert.job_to_proto(
        job(
            progress=PROGRESS,
            checkpoints=(CHECKPOINT,),
            failure=Failure(code="BUSY", message="no", log_tail=("a", "b")),
            started_at=2.5,
            finished_at=3.5,
            attempt=2,
            last_event=8,
        )
    )
    assert message.created_at.ToMicroseconds() == 1_500_000
    assert message.finished_at.ToMicroseconds() == 3_500_000
    assert message.progress.time_left.ToMilliseconds() == 1500
    assert not message.progress.HasField("eval_loss")
    assert list(message.failure.log_tail) == ["a", "b"]
    assert message.fine_tuned_model == "ft:gpt2:cat:job-1"
    assert message.checkpoints[0].model == "ft:gpt2:cat:job-1:ckpt-step-3"
    assert (message.attempt, message.last_event) == (2, 8)


@pytest.mark.parametrize("seconds", [-1.0, math.inf, 1e300])
def test_a_duration_that_fits_no_clock_is_kept_in_bounds(seconds: float) -> None:
    assert 0 <= convert.duration(seconds).seconds <= 315_576_000_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (StateChanged(state=JobState.RUNNING, reason="why"), "state_change"),
        (Measured(progress=PROGRESS, learning_rate=0.5, gradient_norm=2.0), "metrics"),
        (Logged(text="a line"), "log_line"),
        (CheckpointPublished(checkpoint=CHECKPOINT), "checkpoint"),
    ],
)
def test_each_kind_of_event_has_its_place(body: EventBody, kind: str) -> None:
    event = Event(number=4, time=2.25, attempt=2, body=body)
    message = convert.event_to_proto(event, job().model_name)
    assert message.WhichOneof("kind") == kind
    assert (message.number, message.attempt, message.time.ToMilliseconds()) == (4, 2, 2250)


def test_an_event_of_failing_says_why() -> None:
    failure = Failure(code="STORAGE_FULL", message="No space.", log_tail=("last",))
    body = StateChanged(state=JobState.FAILED, reason="No space.", failure=failure)
    event = Event(number=1, time=1, attempt=1, body=body)
    change = convert.event_to_proto(event, job().model_name).state_change
    assert change.state == pb.JOB_STATE_FAILED
    assert (change.failure.code, list(change.failure.log_tail)) == ("STORAGE_FULL", ["last"])
