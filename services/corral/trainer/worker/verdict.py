"""What becomes of a job after its run ended: a pure decision from what is known then.

Knows nothing of how it is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.errors import (
    CheckpointCorruptError,
    Kind,
    StorageFullError,
    TrainingCrashedError,
    all_errors,
)
from corral.jobs.records import Failure, JobState
from corral.launchers.base import RunStatus
from corral.run import Ended

MAX_STRIKES = 3
PAUSED = "Stopped with what it has saved; it goes on from there."

# The user or an operator has to act first; trying again would end the same way.
_FINAL_KINDS = frozenset({Kind.INVALID, Kind.NOT_FOUND, Kind.CONFLICT, Kind.EXHAUSTED})


_WHEN_THERE_IS_SPACE = "It goes on from its last checkpoint when it is resumed: corral jobs resume."

# Linux' out-of-memory killer leaves no other trace in the run.
_OFTEN_MEMORY = (
    ", often for want of memory: then a smaller batch_size or max_length, gradient_checkpointing or"
    " tuning lora takes less"
)


@dataclass(frozen=True)
class Finish:
    """The job reaches an end state; `reason` says why, where that is not plain."""

    state: JobState
    failure: Failure | None = None
    reason: str = ""


@dataclass(frozen=True)
class Release:
    """The job goes back to the queue; with a strike if the attempt got nowhere. One that `pauses`
    waits there until somebody resumes it.
    """

    reason: str
    strike: bool
    pauses: bool = False


@dataclass(frozen=True)
class Outcome:
    """All that is known once a run has ended and everything that it wrote is told."""

    ended: Ended | None
    status: RunStatus
    # Whether its last checkpoint is published.
    is_complete: bool
    cancel_wished: bool
    pause_wished: bool
    shutting_down: bool
    strikes: int
    log_tail: tuple[str, ...]
    # Whether torchrun found one of its processes killed by SIGKILL.
    rank_was_killed: bool = False


def judge(outcome: Outcome) -> Finish | Release:
    """The one table of what a run's end means."""
    ended = outcome.ended
    is_done = ended is not None and ended.outcome == "done"
    if ended is not None and is_done and outcome.is_complete:
        return Finish(JobState.SUCCEEDED, reason=ended.message)
    if outcome.cancel_wished:
        return Finish(JobState.CANCELLED)
    if outcome.status.code:
        return judge_error(outcome.status.code, outcome.status.detail, outcome.strikes)
    if is_done:
        return strike(
            CheckpointCorruptError.code,
            "The run ended, but its last checkpoint is missing or damaged.",
            outcome.strikes,
            outcome.log_tail,
        )
    if outcome.pause_wished and (ended is None or ended.outcome == "stopped"):
        return Release(PAUSED, False)
    if outcome.shutting_down and (ended is None or ended.outcome == "stopped"):
        return Release("The worker shuts down; another goes on from the last checkpoint.", False)
    if ended is None and outcome.status.infrastructure:
        return Release(_lost_its_place(outcome.status), False)
    if ended is None:
        return strike(TrainingCrashedError.code, _crash(outcome), outcome.strikes, outcome.log_tail)
    if ended.outcome == "stopped":
        return Release("The run was stopped from outside; it goes on from its checkpoint.", False)
    return _failed(ended, outcome)


def strike(
    code: str, message: str, strikes: int, log_tail: tuple[str, ...] = ()
) -> Finish | Release:
    """One more attempt that died: another try, or the end after MAX_STRIKES in a row."""
    if strikes + 1 < MAX_STRIKES:
        return Release(message, True)
    sentence = f"{message} That was attempt {MAX_STRIKES} in a row that got nowhere."
    return Finish(JobState.FAILED, Failure(code=code, message=sentence, log_tail=log_tail))


def _failed(ended: Ended, outcome: Outcome) -> Finish | Release:
    code = ended.code or TrainingCrashedError.code
    message = ended.message or "The run failed and did not say why."
    return judge_error(code, message, outcome.strikes, outcome.log_tail)


def judge_error(
    code: str, message: str, strikes: int, log_tail: tuple[str, ...] = ()
) -> Finish | Release:
    """What an error means for its job: its end, where somebody has to act first, else a strike; a
    pause, where all that is missing is space.
    """
    if code == StorageFullError.code:
        # Nothing is wrong with the job: it goes on from its last checkpoint once there is space.
        return Release(f"{code}: {message} {_WHEN_THERE_IS_SPACE}", strike=False, pauses=True)
    known = all_errors().get(code)
    if known is None or known.kind not in _FINAL_KINDS:
        return strike(code, message, strikes, log_tail)
    return Finish(JobState.FAILED, Failure(code=code, message=message, log_tail=log_tail))


def _lost_its_place(status: RunStatus) -> str:
    detail = status.detail.rstrip(".") or "The cluster took the run's place away"
    return f"{detail}; it goes on from the last checkpoint."


def _crash(outcome: Outcome) -> str:
    status = outcome.status
    if status.signal:
        how = f"It was killed by {status.signal}"
        if status.signal == "SIGKILL":
            how += _OFTEN_MEMORY
    elif outcome.rank_was_killed:
        how = f"One of its processes was killed by SIGKILL{_OFTEN_MEMORY}"
    elif status.exit_code is not None:
        how = f"Its exit code was {status.exit_code}"
    else:
        how = "Its exit code is not known"
    detail = f" ({status.detail.rstrip('.')})" if status.detail else ""
    return f"The run ended without saying why. {how}{detail}."
