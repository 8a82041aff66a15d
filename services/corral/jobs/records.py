"""What a job is: its record, its states, its events. Plain frozen values.

Knows nothing of Redis, gRPC or processes. Times are seconds since the epoch by Redis' clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from corral.names import ModelName
from corral.spec import TrainingSpec


class JobState(StrEnum):
    """Where a job is on its way. The last three are its ends."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_end(self) -> bool:
        return self in END_STATES


END_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class _Frozen(BaseModel):
    # A loss may be NaN: JSON's null would not come back as a number.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")


class Failure(_Frozen):
    """Why a job failed: a code of corral.errors, a sentence, the last log lines oldest first."""

    code: str
    message: str
    log_tail: tuple[str, ...] = ()


class Progress(_Frozen):
    """How far a run is. Losses are nats per label token; `time_left` is seconds."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    tokens_per_second: float
    time_left: float
    eval_loss: float | None = None


class PublishedCheckpoint(_Frozen):
    """A complete, verified checkpoint that inference may serve."""

    step: int
    attempt: int
    # Its folder below checkpoints/<job>/.
    folder: str
    size_bytes: int
    loss: float
    eval_loss: float | None = None
    is_final: bool = False
    created_at: float


class Job(_Frozen):
    """A job as the store knows it now."""

    id: str
    state: JobState
    spec: TrainingSpec
    dataset_id: str
    # How often it was claimed; the fencing token of every write about it.
    attempt: int = 0
    # Attempts in a row that died without publishing a checkpoint.
    strikes: int = 0
    # The launcher's handle of the newest attempt, or empty.
    handle: str = ""
    worker: str = ""
    progress: Progress | None = None
    failure: Failure | None = None
    # Kept checkpoints, oldest first.
    checkpoints: tuple[PublishedCheckpoint, ...] = ()
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    # Number of the newest event, from 1; 0 before the first.
    last_event: int = 0

    @property
    def model_name(self) -> ModelName:
        """The name of its newest checkpoint."""
        return ModelName.of_job(self.spec.model, self.spec.suffix, self.id)


# ---------------------------------------------------------------- events


class StateChanged(_Frozen):
    """The job is in another state, and why."""

    kind: Literal["state"] = "state"
    state: JobState
    reason: str = ""
    failure: Failure | None = None


class Measured(_Frozen):
    """One optimizer step's figures. `gradient_norm` is before clipping."""

    kind: Literal["metrics"] = "metrics"
    progress: Progress
    learning_rate: float
    gradient_norm: float


class Logged(_Frozen):
    """A line that the run printed."""

    kind: Literal["log"] = "log"
    text: str


class CheckpointPublished(_Frozen):
    """A checkpoint can be chatted with from now on."""

    kind: Literal["checkpoint"] = "checkpoint"
    checkpoint: PublishedCheckpoint


EventBody = Annotated[
    StateChanged | Measured | Logged | CheckpointPublished, Field(discriminator="kind")
]


class Event(_Frozen):
    """Something that happened to a job. Numbers rise from 1 without gaps."""

    number: int
    time: float
    attempt: int
    body: EventBody


class Submission(_Frozen):
    """What a client asks to have queued."""

    id: str
    spec: TrainingSpec
    dataset_id: str
    idempotency_key: str = ""
