from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from corral.judging import best_of, is_better
from corral.spec import EvalMetric


@pytest.mark.parametrize(
    ("metric", "value", "than", "better"),
    [
        ("eval_loss", 1.0, 2.0, True),
        ("eval_loss", 2.0, 2.0, False),
        ("stop_rate", 0.75, 0.5, True),
        ("stop_rate", 0.5, 0.75, False),
        ("repetition_rate", 0.1, 0.2, True),
        ("eval_loss", 1.0, None, True),
        ("eval_loss", None, None, False),
        ("eval_loss", math.nan, 5.0, False),
        ("eval_loss", 5.0, math.nan, True),
    ],
)
def test_less_loss_less_repetition_and_more_stops_are_better(
    metric: EvalMetric, value: float | None, than: float | None, better: bool
) -> None:
    assert is_better(metric, value, than) is better


@dataclass
class Checkpoint:
    step: int
    eval_loss: float | None


def test_the_best_is_the_first_of_equals_among_those_that_were_measured() -> None:
    steps = {1: None, 2: 2.0, 3: 1.5, 4: 1.5, 5: math.nan}
    found = best_of((Checkpoint(step, loss) for step, loss in steps.items()), "eval_loss")
    assert found is not None
    assert found.step == 3


def test_without_any_measurement_there_is_no_best() -> None:
    assert best_of([Checkpoint(1, None)], "eval_loss") is None
