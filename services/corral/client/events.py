"""What happens to a job while it is watched, as values; see corral.client.values.

Knows nothing of how events come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from corral.client.values import Checkpoint, Failure, JobState, Progress


@dataclass(frozen=True)
class StateChange:
    """The job came into another state, and why."""

    state: JobState
    reason: str
    failure: Failure | None


@dataclass(frozen=True)
class Metrics:
    """An optimizer step was done."""

    progress: Progress | None
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class LogLine:
    """The run printed a line."""

    text: str
    # Whether the worker says it, not the run.
    is_notice: bool


@dataclass(frozen=True)
class SampleAnswer:
    """A greedy answer of the model as it trains."""

    prompt: str
    answer: str
    tokens: int
    stopped: bool
    repetition: float
    looping: bool


@dataclass(frozen=True)
class Evaluation:
    """What the model was worth after a step; rates are shares of 1, `took` is seconds."""

    step: int
    eval_loss: float | None
    perplexity: float | None
    stop_rate: float | None
    repetition_rate: float | None
    looping_rate: float | None
    answer_tokens: float | None
    samples: tuple[SampleAnswer, ...]
    took: float | None
    is_best: bool


@dataclass(frozen=True)
class Event:
    """Something that happened to a job: exactly one of the last five is not None."""

    number: int
    time: datetime | None
    attempt: int
    state_change: StateChange | None
    metrics: Metrics | None
    log_line: LogLine | None
    checkpoint: Checkpoint | None
    evaluation: Evaluation | None
