"""What a job's events add up to on its page."""

from __future__ import annotations

from corral.gateway.console.job_history import MOST_LINES, MOST_POINTS, History, Line
from corral.v1 import trainer_pb2 as pb


def test_a_line_stays_of_bounded_size_and_keeps_its_ends() -> None:
    line = Line()
    for step in range(1, 100_001):
        line.add(step, step / 2)
    assert MOST_POINTS / 4 < len(line.points) <= MOST_POINTS + 1
    assert line.points[0] == (1, 0.5)
    assert line.points[-1] == (100_000, 50_000)
    steps = [step for step, _ in line.points]
    assert steps == sorted(set(steps))


def test_steps_that_are_taken_again_replace_the_lost_ones() -> None:
    line = Line()
    for step in (1, 2, 3, 4, 3, 4, 5):
        line.add(step, 0.0)
    assert [step for step, _ in line.points] == [1, 2, 3, 4, 5]


def test_answers_of_one_question_stand_under_each_other() -> None:
    history = History()
    for number, step in enumerate((10, 20), 1):
        event = pb.TrainingEvent(number=number)
        event.evaluation.step = step
        event.evaluation.samples.add(prompt="Who?", answer=f"me {step}")
        assert history.add(event) == "evaluation"
    answers = history.answers()["Who?"]
    assert [(step, sample.answer) for step, sample in answers] == [(10, "me 10"), (20, "me 20")]
    assert history.number == 2


def test_the_log_keeps_its_newest_lines_and_tells_states() -> None:
    history = History()
    for number in range(MOST_LINES + 5):
        history.add(pb.TrainingEvent(number=number, log_line=pb.LogLine(text=str(number))))
    change = pb.StateChange(state=pb.JOB_STATE_FAILED, reason="no space")
    history.add(pb.TrainingEvent(number=9999, state_change=change))
    assert len(history.log) == MOST_LINES
    assert history.log[-1] == "— failed: no space"
