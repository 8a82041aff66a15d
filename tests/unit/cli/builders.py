"""Small events of a training job, for tests of what shows them; the type of their fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corral.v1 import trainer_pb2

# A command line's exit code, stdout and stderr; see the fixture `corral`.
Corral = Callable[..., tuple[int, str, str]]


def state(number: int, name: str, **fields: Any) -> trainer_pb2.TrainingEvent:
    change = trainer_pb2.StateChange(state=f"JOB_STATE_{name}", **fields)
    return trainer_pb2.TrainingEvent(number=number, attempt=1, state_change=change)


def step(number: int, of: int, at: int, loss: float = 2.5) -> trainer_pb2.TrainingEvent:
    progress = trainer_pb2.Progress(step=at, total_steps=of, loss=loss, tokens_per_second=12.0)
    metrics = trainer_pb2.Metrics(progress=progress, learning_rate=2e-5)
    return trainer_pb2.TrainingEvent(number=number, attempt=1, metrics=metrics)


def log(number: int, text: str) -> trainer_pb2.TrainingEvent:
    line = trainer_pb2.LogLine(text=text)
    return trainer_pb2.TrainingEvent(number=number, attempt=1, log_line=line)
