"""What values are called on the pages: states, models, ages, shares.

Pure functions. Knows nothing of elements.
"""

from __future__ import annotations

import time
from urllib.parse import urlencode

from google.protobuf.timestamp_pb2 import Timestamp

from corral import formatting
from corral.gateway.console.elements import Tone
from corral.names import ModelName
from corral.v1 import inference_pb2, trainer_pb2

_STATES: dict[int, tuple[str, Tone]] = {
    trainer_pb2.JOB_STATE_QUEUED: ("queued", ""),
    trainer_pb2.JOB_STATE_STARTING: ("starting", "good"),
    trainer_pb2.JOB_STATE_RUNNING: ("running", "good"),
    trainer_pb2.JOB_STATE_CANCELLING: ("cancelling", "warn"),
    trainer_pb2.JOB_STATE_SUCCEEDED: ("succeeded", "good"),
    trainer_pb2.JOB_STATE_FAILED: ("failed", "bad"),
    trainer_pb2.JOB_STATE_CANCELLED: ("cancelled", ""),
    trainer_pb2.JOB_STATE_PAUSED: ("paused", "warn"),
    trainer_pb2.JOB_STATE_PAUSING: ("pausing", "warn"),
}

UNDER_WAY = (
    trainer_pb2.JOB_STATE_QUEUED,
    trainer_pb2.JOB_STATE_STARTING,
    trainer_pb2.JOB_STATE_RUNNING,
    trainer_pb2.JOB_STATE_PAUSING,
    trainer_pb2.JOB_STATE_PAUSED,
    trainer_pb2.JOB_STATE_CANCELLING,
)

_REASONS = {
    inference_pb2.FINISH_REASON_LENGTH: "cut at its length limit",
    inference_pb2.FINISH_REASON_LOOP: "the loop guard ended it: it had begun to repeat itself",
    inference_pb2.FINISH_REASON_CANCELLED: "stopped",
}


def state(number: int) -> tuple[str, Tone]:
    """A job's state, and the tone of its pill."""
    return _STATES.get(number, ("unknown", ""))


def job_title(job: trainer_pb2.TrainingJob) -> str:
    """What a person calls a job: its suffix, else its base model."""
    return job.spec.suffix or short_base(job.spec.model)


def short_base(model: str) -> str:
    """A base model's name without the folders before it."""
    return model.rstrip("/").rpartition("/")[2] or model


def model_title(name: str) -> str:
    """`dusty · step 40` for a checkpoint, a base model's own name."""
    parsed = ModelName.parse(name)
    if parsed is None:
        return short_base(name)
    title = parsed.suffix or f"{short_base(parsed.base)} {parsed.job[:10]}"
    return title if parsed.step is None else f"{title} · step {parsed.step:,}"


def ago(moment: Timestamp) -> str:
    """How long ago a time was."""
    return f"{formatting.age(max(0.0, time.time() - seconds(moment)))} ago"


def seconds(moment: Timestamp) -> float:
    """Seconds since the epoch."""
    return moment.ToNanoseconds() / 1e9


def progress(job: trainer_pb2.TrainingJob) -> str:
    """How far a job is, in a sentence."""
    one = job.progress
    if not one.total_steps:
        return "Has not begun yet"
    parts = [f"Step {one.step:,} of {one.total_steps:,}", f"loss {one.loss:.3f}"]
    left = one.time_left.ToTimedelta().total_seconds()
    if job.state == trainer_pb2.JOB_STATE_RUNNING and left > 0:
        parts.append(f"{formatting.duration(left)} left")
    return ", ".join(parts)


def share(job: trainer_pb2.TrainingJob) -> float:
    """How much of a job is done, of 1."""
    return job.progress.step / job.progress.total_steps if job.progress.total_steps else 0.0


def percent(value: float) -> str:
    """`62 %`; a share of 1 is 100 %."""
    return f"{value:.0%}"


def finish(one: inference_pb2.Finish) -> str:
    """How an answer went."""
    parts = [
        formatting.count(one.completion_tokens, "token"),
        formatting.duration(one.total_time.ToNanoseconds() / 1e9),
        formatting.rate(one.tokens_per_second),
    ]
    if reason := _REASONS.get(one.reason):
        parts.append(reason)
    if one.dropped_turns:
        parts.append(f"{formatting.count(one.dropped_turns, 'oldest question')} left out")
    return " · ".join(parts)


def chat_path(*models: str) -> str:
    """Where these models can be chatted with."""
    return "/chat?" + urlencode([("model", name) for name in models])
