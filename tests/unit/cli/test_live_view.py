"""The chart of a watched job, and the view around it, on terminals of several sizes."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from tests.unit.cli.builders import state, step

from corral.cli.live_view import live_view
from corral.cli.loss_chart import MOST_POINTS, LossHistory, chart_size, draw_chart
from corral.cli.watching import follow
from corral.v1 import trainer_pb2

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def plain(drawn: str) -> list[str]:
    return _ESCAPE.sub("", drawn).splitlines()


@pytest.mark.parametrize(("width", "height"), [(40, 8), (80, 10), (100, 14)])
def test_a_chart_fills_its_size_and_no_more(width: int, height: int) -> None:
    history = LossHistory([(at, 3.0 / at) for at in range(1, 500)], [(250, 1.0)])

    lines = plain(draw_chart(history, width, height))

    assert len(lines) == height
    assert max(len(line) for line in lines) == width
    assert "eval loss" in lines[0]
    assert lines[-1].split()[0] == "1"
    assert lines[-1].split()[-1] == "499"


def test_a_long_run_keeps_few_points_and_its_ends() -> None:
    history = LossHistory()
    for at in range(1, 100_001):
        history.add_loss(at, 1.0)

    assert len(history.losses) <= 2 * MOST_POINTS
    assert history.losses[-1][0] == 100_000


def test_steps_that_are_done_again_take_the_place_of_those_that_were_lost() -> None:
    history = LossHistory()
    for at in (1, 2, 3, 4):
        history.add_loss(at, float(at))
    history.add_evaluation(4, 9.0)
    history.add_loss(3, 0.5)

    assert history.losses == [(1, 1.0), (2, 2.0), (3, 0.5)]
    assert history.evaluations == []


def test_a_loss_that_is_no_number_is_no_point() -> None:
    history = LossHistory()
    history.add_loss(1, float("nan"))
    history.add_evaluation(1, float("inf"))

    assert history == LossHistory()


@pytest.mark.parametrize(("columns", "lines"), [(39, 50), (200, 17)])
def test_a_small_terminal_has_no_room_for_a_chart(columns: int, lines: int) -> None:
    assert chart_size(columns, lines) is None


def shown(columns: int, lines: int) -> str:
    """The last frame of a short run on a terminal of that size."""
    file = io.StringIO()
    console = Console(
        file=file, width=columns, height=lines, force_terminal=True, color_system=None
    )
    evaluation = trainer_pb2.Evaluation(step=2, eval_loss=2.0)
    events = [
        step(1, 4, 1, loss=3.0),
        step(2, 4, 2, loss=2.5),
        trainer_pb2.TrainingEvent(number=3, evaluation=evaluation),
        step(4, 4, 4, loss=1.5),
        state(5, "SUCCEEDED"),
    ]
    with live_view(console) as view:
        follow(events, view)
    return file.getvalue()


def test_the_last_frame_has_the_chart_the_bar_and_the_lines_above() -> None:
    frame = shown(80, 24).split("SUCCEEDED")[-1]

    assert "loss, eval loss ●" in frame
    assert "4/4" in frame
    assert "loss 1.5000" in frame
    assert "▁" not in frame
    assert "evaluation after step 2" in shown(80, 24)


def test_a_narrow_terminal_shows_a_sparkline_in_the_charts_place() -> None:
    frame = shown(110, 12).split("SUCCEEDED")[-1]

    assert "eval loss" not in frame
    assert "█▆▁" in frame
