from __future__ import annotations

import pytest
from tests.unit.cli.builders import state, step

from corral.cli.watching import PLAIN_LINES, PlainView, follow, metrics_line


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


def test_an_evaluation_is_shown_when_there_is_one() -> None:
    metrics = step(1, 2, 1).metrics
    assert "eval loss" not in metrics_line(metrics)

    metrics.progress.eval_loss = 1.5

    assert "eval loss 1.5000" in metrics_line(metrics)
