"""Early stopping as a pure function of the evaluations so far."""

from __future__ import annotations

import pytest

from corral.errors import SpecError
from corral.spec import TrainingSpec, parse_spec
from corral.training.early_stopping import BestSoFar, reason_to_stop


def spec(patience: int = 2) -> TrainingSpec:
    return TrainingSpec(
        early_stopping="eval_loss", early_stopping_patience=patience, eval_split=0.1
    )


def after(losses: list[float]) -> BestSoFar:
    best = BestSoFar()
    for step, loss in enumerate(losses, start=1):
        best = best.after("eval_loss", loss, step)
    return best


def test_a_run_goes_on_while_its_evaluations_improve() -> None:
    assert reason_to_stop(spec(), after([3.0, 2.0, 1.0])) == ""


def test_it_ends_after_as_many_evaluations_without_improvement_as_the_patience() -> None:
    assert reason_to_stop(spec(2), after([3.0, 2.0, 2.5])) == ""
    reason = reason_to_stop(spec(2), after([3.0, 2.0, 2.5, 2.0]))
    assert "eval loss of step 2, 2, has not improved for 2 evaluations" in reason


def test_an_improvement_begins_the_patience_anew() -> None:
    best = after([3.0, 3.5, 2.0, 2.5])
    assert best == BestSoFar(value=2.0, step=3, waited=1)
    assert reason_to_stop(spec(2), best) == ""


def test_without_early_stopping_the_best_is_known_and_the_run_goes_on() -> None:
    plain = TrainingSpec(eval_split=0.1)
    assert plain.best_by == "eval_loss"
    assert reason_to_stop(plain, after([1.0, 2.0, 3.0, 4.0, 5.0])) == ""


def test_a_loss_that_is_no_number_is_no_improvement() -> None:
    best = after([float("nan")] * 3)
    assert best.value is None
    assert "was no number" in reason_to_stop(spec(3), best)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"early_stopping": "eval_loss"}, "eval_split"),
        ({"early_stopping": "stop_rate", "eval_prompts": 0}, "eval_prompts"),
        ({"early_stopping": "accuracy"}, "early_stopping"),
    ],
)
def test_early_stopping_needs_what_it_watches(fields: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec(fields)


def test_nothing_marks_a_best_where_nothing_is_held_out_or_watched() -> None:
    assert TrainingSpec().best_by is None
    assert TrainingSpec(early_stopping="stop_rate").best_by == "stop_rate"
