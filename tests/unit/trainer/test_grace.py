"""How long a run may take to save and end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.run import CheckpointWritten, Ended, EventWriter, RunEvent, StepDone
from corral.trainer.worker.grace import MOST_SECONDS, Seen, grace_seconds, seen_in
from corral.volume import RunFolder


def step(time: float, step: int = 1) -> StepDone:
    return StepDone(
        time=time,
        step=step,
        total_steps=9,
        epoch=0.1,
        loss=1.0,
        learning_rate=1e-4,
        gradient_norm=1.0,
        tokens_per_second=1.0,
        time_left=1.0,
    )


def saved(time: float, seconds: float) -> CheckpointWritten:
    return CheckpointWritten(time=time, step=1, folder="step-1", seconds=seconds)


def seen(*events: RunEvent) -> Seen:
    found = Seen()
    for event in events:
        found = found.then(event)
    return found


def test_before_the_first_save_a_run_gets_what_the_setting_says() -> None:
    assert grace_seconds(60, Seen()) == 60
    assert grace_seconds(60, seen(step(0), step(500))) == 60


def test_a_slow_save_gets_twice_as_long_two_steps_and_a_margin() -> None:
    assert grace_seconds(60, Seen(save=100, step=20)) == 2 * 100 + 2 * 20 + 10


def test_a_quick_save_gets_no_less_than_the_setting() -> None:
    assert grace_seconds(60, Seen(save=0.5, step=0.1)) == 60


def test_nothing_gets_longer_than_is_sane_unless_the_setting_says_so() -> None:
    endless = Seen(save=1e6, step=1e6)
    assert grace_seconds(60, endless) == MOST_SECONDS
    assert grace_seconds(2 * MOST_SECONDS, endless) == 2 * MOST_SECONDS


@given(st.floats(0.1, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))
def test_whoever_took_longer_gets_no_less(
    floor: float, save: float, step: float, more: float
) -> None:
    short = grace_seconds(floor, Seen(save, step))
    assert floor <= short <= grace_seconds(floor, Seen(save + more, step + more))


def test_the_longest_save_and_the_longest_step_count() -> None:
    found = seen(
        step(100), step(104), saved(110, 6.0), step(113), saved(115, 2.0), step(117), step(120)
    )
    # What lies between two steps with a save in between is not the step's.
    assert (found.save, found.step) == (6.0, 4.0)


def test_the_time_between_two_runs_is_no_step(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("a1", "a2", "a3")]
    for folder, events in (
        (folders[0], [step(100), step(107), saved(110, 3.0)]),
        # a2 died before it said anything.
        (folders[2], [step(1000), step(1002), Ended(time=1003, outcome="stopped")]),
    ):
        writer = EventWriter(folder.events)
        for event in events:
            writer.write(event)
        writer.close()
    found = seen_in(folders)
    assert (found.save, found.step) == (3.0, 7.0)


@pytest.mark.parametrize("line", ["", "not json", '{"kind": "checkpoint"'])
def test_a_torn_line_is_passed_over(tmp_path: Path, line: str) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text(f"{saved(1, 4.0).model_dump_json()}\n{line}\n")
    assert seen_in([folder]).save == 4.0


def test_a_checkpoint_of_an_older_run_does_not_say_how_long_it_took(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text('{"kind":"checkpoint","time":1,"step":1,"folder":"step-1"}\n')
    assert grace_seconds(60, seen_in([folder])) == 60
