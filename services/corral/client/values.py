"""What a Python user gets from a client: frozen values, without a trace of protobuf.

Each class has the fields of its message in protos/ under the same names; corral.client.reading fills
them. Times are datetimes in UTC, durations seconds, sizes bytes, and enumerations lower-case words
such as "running". Knows nothing of how they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

JobState: TypeAlias = Literal[
    "queued",
    "starting",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
]
FinishReason: TypeAlias = Literal["stop", "length", "loop", "cancelled"]
# A training spec's fields, see corral.spec.TrainingSpec.
Spec: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row; rows are counted from 0, lines from 1."""

    row: int
    line: int
    field: str
    code: str
    message: str
    excerpt: str
    severity: Literal["warning", "error"]


@dataclass(frozen=True)
class DatasetReport:
    """What checking every row found; `problems` are the first of `problem_count`."""

    rows: int
    usable_rows: int
    problems: tuple[RowProblem, ...]
    problem_count: int


@dataclass(frozen=True)
class Dataset:
    """An uploaded file."""

    id: str
    filename: str
    size_bytes: int
    format: str
    report: DatasetReport | None
    created_at: datetime | None


@dataclass(frozen=True)
class Progress:
    """How far a run is, with the figures of its last step and of its last evaluation."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    eval_loss: float | None
    tokens_per_second: float
    time_left: float | None
    cost: float | None
    stop_rate: float | None
    repetition_rate: float | None
    answer_tokens: float | None


@dataclass(frozen=True)
class Failure:
    """Why a job failed: a code of corral.errors, a sentence, and the run's last lines."""

    code: str
    message: str
    log_tail: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint; chat with it by its `model`."""

    model: str
    step: int
    attempt: int
    size_bytes: int
    loss: float
    eval_loss: float | None
    is_final: bool
    created_at: datetime | None
    is_best: bool
    stop_rate: float | None
    repetition_rate: float | None


@dataclass(frozen=True)
class Spending:
    """On which GPUs a rented job ran, and its seconds before and in containers."""

    gpu: str
    queued: float | None
    running: float | None


@dataclass(frozen=True)
class JobValues:
    """A training job as it was when it was fetched."""

    id: str
    state: JobState
    spec: Spec
    dataset_id: str
    attempt: int
    progress: Progress | None
    failure: Failure | None
    checkpoints: tuple[Checkpoint, ...]
    fine_tuned_model: str
    effective_batch_size: int
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    last_event: int
    cost: float | None
    metadata: Mapping[str, str]
    spending: Spending | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """The best by its evaluations, where there were any."""
        return next((one for one in self.checkpoints if one.is_best), None)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one rank at its peak, by what takes them."""

    runtime: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    saving: int
    total: int


@dataclass(frozen=True)
class PlanProposal:
    """Settings in place of the plan's own, and what they would take."""

    changes: Spec
    description: str
    memory: MemoryPlan | None
    fits: bool


@dataclass(frozen=True)
class Plan:
    """What a job would take. `shortest` and `longest` are seconds, 0 where the speed is not known."""

    spec: Spec
    device: str
    device_memory: int
    fits: bool
    memory: MemoryPlan | None
    needed: int
    parameters: int
    trainable_parameters: int
    rows: int
    held_out_rows: int
    steps: int
    tokens: int
    label_share: float
    padding_waste: float
    packing_waste: float
    largest_batch_size: int
    shortest: float | None
    longest: float | None
    time_source: str
    checkpoint_size: int
    disk: int
    proposals: tuple[PlanProposal, ...]
    lowest_cost: float | None
    highest_cost: float | None


@dataclass(frozen=True)
class Model:
    """A base model, or a checkpoint, which has a `job_id`."""

    name: str
    is_base: bool
    is_loaded: bool
    size_bytes: int
    base_model: str
    job_id: str
    step: int
    template: str
    created_at: datetime | None
    loaded_bytes: int


@dataclass(frozen=True)
class Finish:
    """How an answer ended. Times are seconds."""

    reason: FinishReason
    model: str
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token: float | None
    total_time: float | None
    tokens_per_second: float
    cached_tokens: int
    dropped_turns: int


@dataclass(frozen=True)
class ServerInfo:
    """What a server is, and where its inference listens."""

    version: str
    inference_address: str
    launcher: str
