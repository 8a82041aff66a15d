"""A run that explodes is noticed, and the rows at fault are named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from corral.data.examples import held_out_rows
from corral.spec import TrainingSpec
from corral.training.divergence import Explosion, diverged

VOCABULARY = 1000
GUESSING = math.log(VOCABULARY)


def first_explosion(losses: list[float]) -> int | None:
    explosion = Explosion(VOCABULARY)
    return next((step for step, loss in enumerate(losses, 1) if explosion.after(loss)), None)


def test_a_loss_that_stays_worse_than_guessing_is_an_explosion() -> None:
    assert first_explosion([3.0, 2.0, 9.0, 20.0, 30.0]) == 5


@pytest.mark.parametrize(
    "losses",
    [
        [3.0, 2.0, 20.0, 2.0, 20.0, 2.0],
        [3.0, 5.0, 6.0, 6.5, 6.9, 7.0],
        [GUESSING + 5] * 6,
    ],
    ids=["single bad batches", "worse, but not than guessing", "a model that begins badly"],
)
def test_what_may_still_learn_is_none(losses: list[float]) -> None:
    assert first_explosion(losses) is None


@pytest.mark.parametrize("losses", [[2.0, math.nan, 3.0], [2.0, 9.0, 3.0], [2.0, math.inf, 40.0]])
def test_the_rows_of_the_worst_micro_batch_are_named(tmp_path: Path, losses: list[float]) -> None:
    spec = TrainingSpec(eval_split=0.3)
    rows = tmp_path / "rows"
    rows.write_text(
        "\n".join(json.dumps({"instruction": str(n), "output": "x"}) for n in range(10))
    )
    trained = [row for row in range(10) if row not in held_out_rows(10, 0.3, spec.seed)]
    batches = [(0, 1), (4, 2), (3, 5)]
    error = diverged("The loss of step 7 is nan.", batches, losses, spec, rows, 10)
    low, high = trained[2], trained[4]
    assert "step 7" in error.message
    assert "number 2 of 3" in error.message
    assert f"line {low + 1} (row {low}), line {high + 1} (row {high})." in error.message
