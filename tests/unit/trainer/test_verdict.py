"""What the end of a run means for its job."""

from __future__ import annotations

from typing import Any

import pytest

from corral.errors import Kind, all_errors
from corral.jobs.records import JobState
from corral.launchers.base import RunStatus
from corral.run import Ended
from corral.trainer.worker.verdict import MAX_STRIKES, PAUSED, Finish, Outcome, Release, judge

GONE = RunStatus(is_running=False)


def outcome(ended: str | None = None, code: str = "", message: str = "", **fields: Any) -> Outcome:
    event = (
        Ended.model_validate({"time": 0, "outcome": ended, "code": code, "message": message})
        if ended
        else None
    )
    given = {
        "status": GONE,
        "is_complete": False,
        "cancel_wished": False,
        "pause_wished": False,
        "shutting_down": False,
        "strikes": 0,
        "log_tail": ("last line",),
    }
    return Outcome(ended=event, **(given | fields))


def test_done_with_its_last_checkpoint_is_success() -> None:
    assert judge(outcome("done", is_complete=True)) == Finish(JobState.SUCCEEDED)


def test_done_counts_even_if_a_wish_to_cancel_came_too_late() -> None:
    assert judge(outcome("done", is_complete=True, cancel_wished=True)) == Finish(
        JobState.SUCCEEDED
    )


def test_done_without_its_last_checkpoint_is_tried_again() -> None:
    decision = judge(outcome("done"))
    assert isinstance(decision, Release)
    assert decision.strike


@pytest.mark.parametrize("ended", [None, "stopped", "failed"])
def test_a_cancelled_run_is_cancelled_however_it_ended(ended: str | None) -> None:
    assert judge(outcome(ended, cancel_wished=True)) == Finish(JobState.CANCELLED)


@pytest.mark.parametrize("ended", [None, "stopped"])
def test_a_run_that_was_stopped_to_be_paused_is_released_without_a_strike(
    ended: str | None,
) -> None:
    assert judge(outcome(ended, pause_wished=True)) == Release(PAUSED, strike=False)


def test_a_run_whose_place_was_taken_away_goes_back_without_a_strike() -> None:
    evicted = RunStatus(False, signal="SIGKILL", detail="Evicted", infrastructure=True)
    decision = judge(outcome(status=evicted, strikes=MAX_STRIKES))
    assert decision == Release("Evicted; it goes on from the last checkpoint.", strike=False)


def test_a_run_that_said_why_it_failed_is_believed_whatever_became_of_its_node() -> None:
    evicted = RunStatus(False, infrastructure=True)
    decision = judge(outcome("failed", "DATASET_INVALID", "Row 3.", status=evicted))
    assert isinstance(decision, Finish)
    assert decision.state is JobState.FAILED


@pytest.mark.parametrize("shutting_down", [True, False])
def test_a_stopped_run_goes_back_without_a_strike(shutting_down: bool) -> None:
    decision = judge(outcome("stopped", shutting_down=shutting_down, strikes=MAX_STRIKES))
    assert isinstance(decision, Release)
    assert not decision.strike


def test_a_run_killed_because_the_worker_would_not_wait_has_no_strike() -> None:
    decision = judge(outcome(None, shutting_down=True))
    assert isinstance(decision, Release)
    assert not decision.strike


@pytest.mark.parametrize(
    "code",
    [
        code
        for code, cls in all_errors().items()
        if cls.kind in (Kind.INVALID, Kind.NOT_FOUND, Kind.EXHAUSTED) and code != "STORAGE_FULL"
    ],
)
def test_what_another_try_would_not_help_fails_at_once(code: str) -> None:
    decision = judge(outcome("failed", code, "This is why."))
    assert isinstance(decision, Finish)
    assert decision.failure is not None
    assert decision.failure.code == code
    assert decision.failure.message == "This is why."
    assert decision.failure.log_tail == ("last line",)


def test_a_full_volume_pauses_the_job_without_a_strike() -> None:
    decision = judge(outcome("failed", "STORAGE_FULL", "No space is left."))
    assert isinstance(decision, Release)
    assert (decision.pauses, decision.strike) == (True, False)
    assert decision.reason.startswith("STORAGE_FULL: No space is left.")
    assert "corral jobs resume" in decision.reason


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "TRAINING_CRASHED", "", "NEVER_HEARD"])
def test_what_may_go_away_is_tried_three_times(code: str) -> None:
    for strikes in range(MAX_STRIKES - 1):
        decision = judge(outcome("failed", code, "This is why.", strikes=strikes))
        assert isinstance(decision, Release)
        assert decision.strike
    last = judge(outcome("failed", code, "This is why.", strikes=MAX_STRIKES - 1))
    assert isinstance(last, Finish)
    assert last.failure is not None
    assert last.failure.code == (code or "TRAINING_CRASHED")
    assert "This is why." in last.failure.message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (RunStatus(False, signal="SIGKILL"), "SIGKILL, often for want of memory"),
        (RunStatus(False, signal="SIGSEGV"), "SIGSEGV"),
        (RunStatus(False, exit_code=9), "exit code was 9"),
        (GONE, "not known"),
        (RunStatus(False, exit_code=1), "exit code was 1"),
        (RunStatus(False, detail="the node went away."), "the node went away"),
    ],
)
def test_a_crash_says_all_that_is_known(status: RunStatus, said: str) -> None:
    decision = judge(outcome(None, status=status, strikes=MAX_STRIKES - 1))
    assert isinstance(decision, Finish)
    assert decision.failure is not None
    assert decision.failure.code == "TRAINING_CRASHED"
    assert said in decision.failure.message


def test_a_process_that_torchrun_found_killed_is_told_with_what_takes_less_memory() -> None:
    status = RunStatus(False, exit_code=1)
    decision = judge(outcome(None, status=status, rank_was_killed=True))
    assert isinstance(decision, Release)
    assert "killed by SIGKILL, often for want of memory" in decision.reason
    assert "batch_size" in decision.reason
