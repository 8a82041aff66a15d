"""Builders of job records for tests."""

from __future__ import annotations

from typing import Any

from corral.jobs.records import (
    Event,
    Failure,
    JobState,
    Measured,
    Progress,
    PublishedCheckpoint,
    StateChanged,
    Submission,
)
from corral.spec import TrainingSpec

DATASET = "d" * 64


def submission(
    job_id: str = "job-1", key: str = "", dataset: str = DATASET, **spec: Any
) -> Submission:
    """A job on GPT-2, or on what `spec` says."""
    return Submission(id=job_id, spec=TrainingSpec(**spec), dataset_id=dataset, idempotency_key=key)


def measured(step: int, loss: float = 2.5) -> Measured:
    """What a run reports after a step."""
    progress = Progress(
        step=step, total_steps=100, epoch=0.5, loss=loss, tokens_per_second=1000, time_left=60
    )
    return Measured(progress=progress, learning_rate=1e-5, gradient_norm=1.0)


def checkpoint(step: int, attempt: int = 1) -> PublishedCheckpoint:
    """A checkpoint of 1000 bytes. Its time has microseconds, which must survive."""
    return PublishedCheckpoint(
        step=step,
        attempt=attempt,
        folder=f"step-{step}-a{attempt}",
        size_bytes=1000,
        loss=2.25,
        created_at=1_700_000_000.123456,
    )


def failure(message: str = "It ran out of memory.") -> Failure:
    """Why a job failed, with a log that JSON has to escape."""
    return Failure(code="TRAINING_CRASHED", message=message, log_tail=('a "line"', "naïve\t…"))


def states(events: list[Event]) -> list[JobState]:
    """The states that a job went through."""
    return [event.body.state for event in events if isinstance(event.body, StateChanged)]
