from __future__ import annotations

import pytest
from tests.unit.cli.builders import log, state, step

from corral.cli.evaluation_output import figures_of
from corral.cli.watching import PLAIN_LINES, PlainView, follow, metrics_line
from corral.v1 import trainer_pb2


@pytest.mark.parametrize("total", [1, 7, 100, 1234, 50_000])
def test_plain_lines_stay_few_and_end_with_the_last_step(total: int) -> None:
    lines: list[str] = []
    view = PlainView(lines.append)

    follow((step(at, total, at) for at in range(1, total + 1)), view)

    assert len(lines) <= 2 * PLAIN_LINES + 1
    assert lines[0].startswith(f"step 1/{total} ")
    assert lines[-1].startswith(f"step {total}/{total} ")


def test_following_returns_the_last_state() -> None:
    lines: list[str] = []

    last = follow([state(1, "QUEUED"), state(2, "FAILED", reason="why")], PlainView(lines.append))

    assert lines == ["QUEUED", "FAILED: why"]
    assert last is not None
    assert last.reason == "why"


def test_an_evaluation_is_shown_with_its_figures_its_cost_and_its_answers() -> None:
    lines: list[str] = []
    sample = trainer_pb2.SampleAnswer(prompt="Who?", answer="Me, me, me,", looping=True)
    evaluation = trainer_pb2.Evaluation(
        step=7, eval_loss=1.5, perplexity=4.48, is_best=True, samples=[sample]
    )
    evaluation.took.FromMilliseconds(2500)

    follow([trainer_pb2.TrainingEvent(evaluation=evaluation)], PlainView(lines.append))

    assert lines == [
        "evaluation after step 7 (took 2.50 s, the best so far): eval loss 1.5000, perplexity 4.48",
        "  Who? -> Me, me, me, (loops)",
    ]


def test_the_figures_of_answers_are_left_out_where_nothing_was_asked() -> None:
    evaluation = trainer_pb2.Evaluation(stop_rate=0.75, repetition_rate=0.125, answer_tokens=31)
    assert figures_of(evaluation) == [
        "75% stop by themselves",
        "12% repetition",
        "31 tokens an answer",
    ]
    assert figures_of(trainer_pb2.Progress()) == []


def test_what_the_worker_says_of_a_run_is_shown_and_what_the_run_prints_only_if_asked_for() -> None:
    waiting = log(1, "Modal has no GPU for the run yet.")
    waiting.log_line.is_notice = True
    events = [waiting, log(2, "loading")]
    said: list[str] = []
    follow(events, PlainView(said.append))
    assert said == ["Modal has no GPU for the run yet."]
    follow(events, PlainView(said.append), with_log=True)
    assert said[1:] == ["Modal has no GPU for the run yet.", "  | loading"]


def test_a_step_says_what_the_run_has_cost_where_somebody_bills_for_it() -> None:
    metrics = step(1, of=2, at=1).metrics
    assert "$" not in metrics_line(metrics)
    metrics.progress.cost = 0.125
    assert metrics_line(metrics).endswith("left  $0.1250")
