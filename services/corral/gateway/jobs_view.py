"""Corral's jobs, events and checkpoints as OpenAI's SDK types them.

Values in, values out: knows nothing of calls.
"""

from __future__ import annotations

import time

from corral.errors import DatasetError
from corral.gateway import ids
from corral.gateway.plain import plain
from corral.gateway.schemas.base import finite
from corral.gateway.schemas.fine_tuning import (
    Auto,
    CheckpointMetrics,
    FineTuningJob,
    Hyperparameters,
    JobCheckpoint,
    JobDetails,
    JobError,
    JobEvent,
    Method,
    Status,
    Supervised,
)
from corral.v1 import trainer_pb2 as pb

_STATUS: dict[int, Status] = {
    pb.JOB_STATE_QUEUED: "queued",
    pb.JOB_STATE_STARTING: "running",
    pb.JOB_STATE_RUNNING: "running",
    # Still at work: it saves what it has.
    pb.JOB_STATE_CANCELLING: "running",
    pb.JOB_STATE_PAUSING: "running",
    pb.JOB_STATE_PAUSED: "paused",
    pb.JOB_STATE_SUCCEEDED: "succeeded",
    pb.JOB_STATE_FAILED: "failed",
    pb.JOB_STATE_CANCELLED: "cancelled",
}
_SENTENCES = {
    pb.JOB_STATE_QUEUED: "The job is queued",
    pb.JOB_STATE_STARTING: "The job is starting",
    pb.JOB_STATE_RUNNING: "The job is running",
    pb.JOB_STATE_CANCELLING: "The job is being cancelled",
    pb.JOB_STATE_PAUSING: "The job is being paused",
    pb.JOB_STATE_PAUSED: "The job is paused",
    pb.JOB_STATE_SUCCEEDED: "The job has successfully completed",
    pb.JOB_STATE_FAILED: "The job failed",
    pb.JOB_STATE_CANCELLED: "The job was cancelled",
}


def job_view(job: pb.TrainingJob) -> FineTuningJob:
    """A job. The model's name is told once the job has ended, as OpenAI does."""
    hyperparameters = Hyperparameters(
        n_epochs=job.spec.epochs,
        batch_size=job.effective_batch_size,
        learning_rate_multiplier=_multiplier(job.spec),
    )
    has_ended = job.HasField("finished_at")
    is_running = job.state == pb.JOB_STATE_RUNNING and job.HasField("progress")
    time_left = job.progress.time_left.seconds if is_running else 0
    return FineTuningJob(
        id=job.id,
        created_at=job.created_at.seconds,
        finished_at=job.finished_at.seconds if has_ended else None,
        estimated_finish=int(time.time()) + time_left if is_running else None,
        status=_STATUS[job.state],
        error=_error(job.failure) if job.HasField("failure") else None,
        model=job.spec.model,
        fine_tuned_model=(job.fine_tuned_model or None) if has_ended else None,
        training_file=ids.file_id(job.dataset_id),
        seed=job.spec.seed,
        hyperparameters=hyperparameters,
        method=Method(supervised=Supervised(hyperparameters=hyperparameters)),
        metadata=dict(job.metadata),
        corral=JobDetails(
            state=pb.JobState.Name(job.state).removeprefix("JOB_STATE_"),
            attempt=job.attempt,
            spec=plain(job.spec),
            progress=plain(job.progress) if job.HasField("progress") else None,
            cost=job.cost if job.HasField("cost") else None,
            log_tail=list(job.failure.log_tail),
        ),
    )


def is_unfinished(job: pb.TrainingJob) -> bool:
    """Whether a wish that the job was told of is still being carried out."""
    return job.state in (pb.JOB_STATE_CANCELLING, pb.JOB_STATE_PAUSING)


def _multiplier(spec: pb.TrainingSpec) -> Auto | float:
    """Where the rate itself was asked for, it is not known what it is a multiple of."""
    if spec.HasField("learning_rate"):
        return "auto"
    return spec.learning_rate_multiplier if spec.HasField("learning_rate_multiplier") else 1.0


def _error(failure: pb.Failure) -> JobError:
    is_of_file = failure.code == DatasetError.code
    return JobError(
        code="invalid_training_file" if is_of_file else failure.code.lower(),
        message=failure.message,
        param="training_file" if is_of_file else None,
    )


def event_view(event: pb.TrainingEvent, job_id: str) -> JobEvent:
    """An event, of type metrics where it carries figures."""
    view = JobEvent(
        id=ids.event_id(job_id, event.number),
        created_at=event.time.seconds,
        level="info",
        message=event.log_line.text,
        type="message",
    )
    kind = event.WhichOneof("kind")
    if kind == "metrics":
        _tell_metrics(view, event.metrics)
    elif kind == "evaluation":
        _tell_evaluation(view, event.evaluation)
    elif kind == "checkpoint":
        _tell_checkpoint(view, event.checkpoint)
    elif kind == "state_change":
        _tell_state(view, event.state_change)
    return view


def _tell_metrics(view: JobEvent, metrics: pb.Metrics) -> None:
    progress = metrics.progress
    view.type = "metrics"
    view.message = f"Step {progress.step}/{progress.total_steps}: training loss={progress.loss:.2f}"
    view.data = {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "train_loss": finite(progress.loss),
        "learning_rate": finite(metrics.learning_rate),
        "gradient_norm": finite(metrics.gradient_norm),
        "tokens_per_second": finite(progress.tokens_per_second),
    }


def _tell_checkpoint(view: JobEvent, checkpoint: pb.Checkpoint) -> None:
    view.message = f"Checkpoint created at step {checkpoint.step}: {checkpoint.model}"
    view.data = {"step": checkpoint.step, "fine_tuned_model_checkpoint": checkpoint.model}


def _tell_evaluation(view: JobEvent, evaluation: pb.Evaluation) -> None:
    view.type = "metrics"
    figures = plain(evaluation)
    figures["full_valid_loss"] = figures.pop("eval_loss", None)
    view.data = figures
    said = [
        f"{name.replace('_', ' ')}={value:.2f}"
        for name, value in figures.items()
        if name in ("full_valid_loss", "stop_rate", "repetition_rate") and value is not None
    ]
    view.message = f"Evaluation at step {evaluation.step}: {', '.join(said) or 'done'}"


def _tell_state(view: JobEvent, change: pb.StateChange) -> None:
    reason = f": {change.reason.rstrip('.')}" if change.reason else ""
    view.message = f"{_SENTENCES[change.state]}{reason}."
    view.data = {"state": pb.JobState.Name(change.state).removeprefix("JOB_STATE_")}
    if change.state == pb.JOB_STATE_FAILED:
        view.level = "error"


def checkpoint_view(checkpoint: pb.Checkpoint, job_id: str) -> JobCheckpoint:
    """A checkpoint under the name that chat knows it by."""
    evaluated = finite(checkpoint.eval_loss) if checkpoint.HasField("eval_loss") else None
    return JobCheckpoint(
        id=ids.checkpoint_id(job_id, checkpoint.step),
        created_at=checkpoint.created_at.seconds,
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=job_id,
        step_number=checkpoint.step,
        metrics=CheckpointMetrics(
            step=checkpoint.step, train_loss=finite(checkpoint.loss), full_valid_loss=evaluated
        ),
    )
