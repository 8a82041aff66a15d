"""Between corral.v1's messages and Corral's own values: spec, jobs, events.

Field names are the same on both sides, so a spec converts by its descriptor. Knows nothing of
calls, Redis or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from corral import formatting
from corral.errors import InvalidRequestError
from corral.jobs.records import (
    CheckpointPublished,
    Evaluated,
    Event,
    Failure,
    Job,
    JobState,
    Logged,
    Measured,
    Progress,
    PublishedCheckpoint,
    Spending,
    Spent,
)
from corral.names import ModelName
from corral.spec import TrainingSpec
from corral.v1 import trainer_pb2 as pb

MOST_METADATA = 16
LONGEST_METADATA_KEY = 64
LONGEST_METADATA_VALUE = 512
# The longest that a Duration holds: about 10,000 years.
_LONGEST_SECONDS = 315_576_000_000


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch, to the microsecond."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def duration(seconds: float) -> Duration:
    """Seconds, to the microsecond; at least 0, and never too long for the type."""
    span = Duration()
    span.FromMicroseconds(round(min(max(seconds, 0.0), _LONGEST_SECONDS) * 1e6))
    return span


# ---------------------------------------------------------------- spec


def spec_fields(message: pb.TrainingSpec) -> dict[str, Any]:
    """The fields that a client set, by name; corral.spec.parse_spec checks them."""
    return {field.name: value for field, value in message.ListFields()}


def spec_to_proto(spec: TrainingSpec) -> pb.TrainingSpec:
    """Every field that has a value."""
    return pb.TrainingSpec(**spec.model_dump(exclude_none=True))


# ---------------------------------------------------------------- jobs


def state_to_proto(state: JobState) -> pb.JobState:
    """The state of the same name."""
    return cast(pb.JobState, pb.JobState.Value(f"JOB_STATE_{state}"))


def states_from_proto(states: Sequence[pb.JobState]) -> tuple[JobState, ...]:
    """The states of the same names. Raises InvalidRequestError for one that is none."""
    try:
        return tuple(
            JobState(pb.JobState.Name(state).removeprefix("JOB_STATE_")) for state in states
        )
    except ValueError:
        raise InvalidRequestError(
            "states: there is no such state.", f"Known: {', '.join(JobState)}."
        ) from None


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """A creator's notes. Raises InvalidRequestError where there are too many, or too long ones."""
    if len(metadata) > MOST_METADATA:
        raise InvalidRequestError(f"metadata: more than {MOST_METADATA} entries.")
    for key, value in metadata.items():
        if len(key) > LONGEST_METADATA_KEY:
            raise InvalidRequestError(
                f"metadata: the key {key!r:.80} has more than {LONGEST_METADATA_KEY} characters."
            )
        if len(value) > LONGEST_METADATA_VALUE:
            raise InvalidRequestError(
                f"metadata.{key}: more than {LONGEST_METADATA_VALUE} characters."
            )
    return dict(metadata)


def job_to_proto(job: Job) -> pb.TrainingJob:
    """A job as clients see it."""
    best = job.best
    message = pb.TrainingJob(
        id=job.id,
        state=state_to_proto(job.state),
        spec=spec_to_proto(job.spec),
        dataset_id=job.dataset_id,
        attempt=job.attempt,
        checkpoints=[
            checkpoint_to_proto(one, job.model_name, is_best=one is best) for one in job.checkpoints
        ],
        fine_tuned_model=str(job.model_name) if job.checkpoints else "",
        effective_batch_size=job.spec.effective_batch_size,
        created_at=timestamp(job.created_at),
        last_event=job.last_event,
        metadata=job.metadata,
    )
    if job.spending is not None:
        message.spending.CopyFrom(spending_to_proto(job.spending))
        if job.spending.cost is not None:
            message.cost = job.spending.cost
    if job.progress is not None:
        message.progress.CopyFrom(progress_to_proto(job.progress))
    if job.failure is not None:
        message.failure.CopyFrom(failure_to_proto(job.failure))
    if job.started_at is not None:
        message.started_at.CopyFrom(timestamp(job.started_at))
    if job.finished_at is not None:
        message.finished_at.CopyFrom(timestamp(job.finished_at))
    return message


def progress_to_proto(progress: Progress) -> pb.Progress:
    """How far a run is."""
    return pb.Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        stop_rate=progress.stop_rate,
        repetition_rate=progress.repetition_rate,
        answer_tokens=progress.answer_tokens,
        tokens_per_second=progress.tokens_per_second,
        time_left=duration(progress.time_left),
        cost=progress.cost,
    )


def spending_to_proto(spending: Spending) -> pb.Spending:
    """What a backend bills for."""
    return pb.Spending(
        gpu=spending.gpu,
        queued=duration(spending.queued_seconds),
        running=duration(spending.running_seconds),
    )


def failure_to_proto(failure: Failure) -> pb.Failure:
    """Why a job failed."""
    return pb.Failure(code=failure.code, message=failure.message, log_tail=failure.log_tail)


def checkpoint_to_proto(
    checkpoint: PublishedCheckpoint, model: ModelName, *, is_best: bool = False
) -> pb.Checkpoint:
    """A checkpoint under the name that chat knows it by."""
    return pb.Checkpoint(
        model=str(model.at(checkpoint.step)),
        step=checkpoint.step,
        attempt=checkpoint.attempt,
        size_bytes=checkpoint.size_bytes,
        loss=checkpoint.loss,
        eval_loss=checkpoint.eval_loss,
        stop_rate=checkpoint.stop_rate,
        repetition_rate=checkpoint.repetition_rate,
        is_final=checkpoint.is_final,
        is_best=is_best,
        created_at=timestamp(checkpoint.created_at),
    )


# ---------------------------------------------------------------- events


def evaluation_to_proto(evaluation: Evaluated) -> pb.Evaluation:
    """What the model was worth after a step."""
    return pb.Evaluation(
        step=evaluation.step,
        eval_loss=evaluation.eval_loss,
        perplexity=evaluation.perplexity,
        stop_rate=evaluation.stop_rate,
        repetition_rate=evaluation.repetition_rate,
        looping_rate=evaluation.looping_rate,
        answer_tokens=evaluation.answer_tokens,
        samples=[pb.SampleAnswer(**sample.model_dump()) for sample in evaluation.samples],
        took=duration(evaluation.evaluation_seconds),
        is_best=evaluation.is_best,
    )


def event_to_proto(event: Event, model: ModelName) -> pb.TrainingEvent:
    """Something that happened to the job of that model."""
    message = pb.TrainingEvent(
        number=event.number, time=timestamp(event.time), attempt=event.attempt
    )
    body = event.body
    if isinstance(body, Measured):
        message.metrics.progress.CopyFrom(progress_to_proto(body.progress))
        message.metrics.learning_rate = body.learning_rate
        message.metrics.gradient_norm = body.gradient_norm
    elif isinstance(body, Evaluated):
        message.evaluation.CopyFrom(evaluation_to_proto(body))
    elif isinstance(body, Spent):
        message.log_line.text = spent_sentence(body)
        message.log_line.is_notice = body.is_notice
    elif isinstance(body, Logged):
        message.log_line.text = body.text
        message.log_line.is_notice = body.is_notice
    elif isinstance(body, CheckpointPublished):
        message.checkpoint.CopyFrom(checkpoint_to_proto(body.checkpoint, model))
    else:
        message.state_change.state = state_to_proto(body.state)
        message.state_change.reason = body.reason
        if body.failure is not None:
            message.state_change.failure.CopyFrom(failure_to_proto(body.failure))
    return message


def spent_sentence(spent: Spent) -> str:
    """What a run has had and cost, for a line of its log."""
    queued = formatting.duration(spent.queued_seconds)
    running = formatting.duration(spent.running_seconds)
    cost = "" if spent.cost is None else f", ${spent.cost:.4f} so far"
    return f"On {spent.gpu}: {queued} in the queue, {running} running{cost}."
