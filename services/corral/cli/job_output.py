"""A job in words: how it ended, what it is, and which command goes on from there.

Knows nothing of how jobs are fetched.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from textwrap import shorten

from corral import formatting
from corral.cli import output
from corral.cli.evaluation_output import figures_of
from corral.cli.watching import state_name
from corral.client.outcome import failure_error
from corral.errors import ConflictError
from corral.spec import TrainingSpec
from corral.v1 import trainer_pb2

# Characters of a preamble or of a template's text.
_TEXT_SHOWN = 60


def ended(job: trainer_pb2.TrainingJob) -> None:
    """Say how a job ended. Raises the error of its failure; ConflictError when cancelled."""
    if job.state == trainer_pb2.JOB_STATE_FAILED:
        for line in job.failure.log_tail:
            output.say(f"  | {line}", dim=True)
        raise failure_error(job.id, job.failure.code, job.failure.message)
    if job.state == trainer_pb2.JOB_STATE_CANCELLED:
        raise ConflictError(f"Job {job.id} was cancelled.", _kept(job))
    output.say(f"Done. The model: {job.fine_tuned_model}")
    output.say(f"Chat with it:    corral chat {shlex.quote(job.fine_tuned_model)}")
    best = next((one for one in job.checkpoints if one.is_best), None)
    if best and best is not job.checkpoints[-1]:
        output.say(f"Its best, step {best.step}: corral chat {job.id}@best")


def job_table(jobs: Sequence[trainer_pb2.TrainingJob], now: float) -> str:
    """One line a job. `now` is seconds since the epoch."""
    headers = ("job", "state", "model", "step", "loss", "age")
    return output.table(headers, [_row(job, now) for job in jobs])


def job_details(job: trainer_pb2.TrainingJob, now: float) -> str:
    """All that is known of a job, for a person."""
    spec = job.spec
    batch = f"{spec.batch_size} x {spec.gradient_accumulation_steps} x {spec.processes}"
    lines = output.fields(
        [
            ("job", job.id),
            ("state", state_name(job.state)),
            ("base model", spec.model),
            ("data set", job.dataset_id),
            *_asked(spec),
            ("created", f"{formatting.age(now - job.created_at.ToNanoseconds() / 1e9)} ago"),
            ("took", _took(job, now)),
            ("attempt", str(job.attempt) if job.attempt else ""),
            ("ran on", _ran_on(job)),
            ("cost", f"${job.cost:.4f}" if job.HasField("cost") else ""),
            ("progress", _progress(job)),
            ("last evaluation", _evaluation(job)),
            ("effective batch", f"{batch} = {job.effective_batch_size} examples a step"),
            ("model", job.fine_tuned_model),
        ]
    )
    parts = [lines]
    if job.checkpoints:
        headers = ("step", "loss", "eval loss", "stop", "repeat", "size", "checkpoint")
        parts += ["", output.table(headers, [_checkpoint(c) for c in job.checkpoints])]
    if job.state == trainer_pb2.JOB_STATE_FAILED:
        parts += ["", f"{job.failure.code}: {job.failure.message}"]
        parts.extend(f"  | {line}" for line in job.failure.log_tail)
    return "\n".join(parts)


def _checkpoint(checkpoint: trainer_pb2.Checkpoint) -> tuple[str, ...]:
    answers = checkpoint.HasField("stop_rate")
    return (
        str(checkpoint.step),
        f"{checkpoint.loss:.4f}",
        f"{checkpoint.eval_loss:.4f}" if checkpoint.HasField("eval_loss") else "-",
        f"{checkpoint.stop_rate:.0%}" if answers else "-",
        f"{checkpoint.repetition_rate:.0%}" if answers else "-",
        formatting.size(checkpoint.size_bytes),
        f"{checkpoint.model}{' (best)' if checkpoint.is_best else ''}",
    )


def _row(job: trainer_pb2.TrainingJob, now: float) -> tuple[str, ...]:
    has_progress = job.HasField("progress")
    return (
        job.id,
        state_name(job.state),
        job.spec.model,
        f"{job.progress.step}/{job.progress.total_steps}" if has_progress else "-",
        f"{job.progress.loss:.4f}" if has_progress else "-",
        formatting.age(now - job.created_at.ToNanoseconds() / 1e9),
    )


def _asked(spec: trainer_pb2.TrainingSpec) -> list[tuple[str, str]]:
    """The template, and what else of the spec is not as it would be without being asked for."""
    fields: list[tuple[str, str]] = []
    for name, field in TrainingSpec.model_fields.items():
        if name == "model" or not spec.HasField(name):
            continue
        value = getattr(spec, name)
        if name == "template" or value != field.default:
            shown = shorten(str(value), _TEXT_SHOWN)
            fields.append((name.replace("_", " "), shown))
    return fields


def _progress(job: trainer_pb2.TrainingJob) -> str:
    if not job.HasField("progress"):
        return ""
    progress = job.progress
    return f"step {progress.step} of {progress.total_steps}, loss {progress.loss:.4f}"


def _evaluation(job: trainer_pb2.TrainingJob) -> str:
    return ", ".join(figures_of(job.progress)) if job.HasField("progress") else ""


def _took(job: trainer_pb2.TrainingJob, now: float) -> str:
    if not job.HasField("started_at"):
        return ""
    end = job.finished_at.ToNanoseconds() / 1e9 if job.HasField("finished_at") else now
    return formatting.duration(end - job.started_at.ToNanoseconds() / 1e9)


def _ran_on(job: trainer_pb2.TrainingJob) -> str:
    """Which GPU, and the seconds that cost nothing apart from those that do."""
    if not job.HasField("spending"):
        return ""
    queued = formatting.duration(job.spending.queued.ToTimedelta().total_seconds())
    running = formatting.duration(job.spending.running.ToTimedelta().total_seconds())
    return f"{job.spending.gpu}, {queued} in the queue, {running} running"


def _kept(job: trainer_pb2.TrainingJob) -> str:
    if not job.fine_tuned_model:
        return ""
    return f"Its newest checkpoint stays: corral chat {shlex.quote(job.fine_tuned_model)}"
