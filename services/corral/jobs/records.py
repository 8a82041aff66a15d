"""What a job is: its record, its states, its events. Plain frozen values.

Knows nothing of Redis, gRPC or processes. Times are seconds since the epoch by Redis' clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from corral.judging import best_of
from corral.names import ModelName
from corral.run import SampleAnswer
from corral.spec import TrainingSpec


class JobState(StrEnum):
    """Where a job is on its way; `is_end` tells its ends. PAUSING is on the way to PAUSED, where nothing
    of it runs until it is resumed.
    """

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
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
    # The last evaluation's.
    eval_loss: float | None = None
    stop_rate: float | None = None
    repetition_rate: float | None = None
    answer_tokens: float | None = None
    # US dollars that the job has cost so far; None where nobody bills for it.
    cost: float | None = None


class Spending(_Frozen):
    """What a backend bills for, as corral.launchers.base.Spending has it."""

    gpu: str
    # Of the newest attempt.
    queued_seconds: float
    running_seconds: float
    # US dollars of the whole job so far; None where the price is not known.
    cost: float | None


class PublishedCheckpoint(_Frozen):
    """A complete, verified checkpoint that inference may serve."""

    step: int
    attempt: int
    # Its folder below checkpoints/<job>/.
    folder: str
    size_bytes: int
    loss: float
    # Of the evaluation at its step, if there was one.
    eval_loss: float | None = None
    stop_rate: float | None = None
    repetition_rate: float | None = None
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
    # None where nobody bills for it.
    spending: Spending | None = None
    # Notes of whoever created it.
    metadata: dict[str, str] = {}

    @property
    def best(self) -> PublishedCheckpoint | None:
        """The best of its kept checkpoints, the earliest of equals; None where nothing was measured
        to judge them by.
        """
        metric = self.spec.best_by
        return None if metric is None else best_of(self.checkpoints, metric)

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


class Evaluated(_Frozen):
    """What the model is worth after a step, as corral.run.EvaluationDone has it."""

    kind: Literal["evaluation"] = "evaluation"
    step: int
    eval_loss: float | None = None
    perplexity: float | None = None
    stop_rate: float | None = None
    repetition_rate: float | None = None
    looping_rate: float | None = None
    answer_tokens: float | None = None
    samples: tuple[SampleAnswer, ...] = ()
    evaluation_seconds: float
    is_best: bool = False


class Spent(Spending):
    """What the job has had and cost by now. `is_notice`: not only the next figures of the same."""

    kind: Literal["spent"] = "spent"
    is_notice: bool = False


class Logged(_Frozen):
    """A line that the run printed; a notice is the worker's own, about the run."""

    kind: Literal["log"] = "log"
    text: str
    is_notice: bool = False


class CheckpointPublished(_Frozen):
    """A checkpoint can be chatted with from now on."""

    kind: Literal["checkpoint"] = "checkpoint"
    checkpoint: PublishedCheckpoint


EventBody = Annotated[
    StateChanged | Measured | Evaluated | Spent | Logged | CheckpointPublished,
    Field(discriminator="kind"),
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
    metadata: dict[str, str] = {}
