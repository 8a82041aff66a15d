"""Figures of prompts, and the sentence that is made of them."""

from __future__ import annotations

import pytest

from corral.cli.prompt_comparison import Answer, Measured, Prompt, prompts_to_compare, verdict
from corral.data.preambles import named_preamble
from corral.errors import InvalidRequestError


def measured(loss: float | None, stops: int, loops: int, trained: bool = False) -> Measured:
    """Four answers, of which so many stop and so many loop."""
    answers = tuple(
        Answer("Who?", "Me.", 10, at < stops, 0.5 if at < loops else 0.0, at < loops)
        for at in range(4)
    )
    return Measured(Prompt("one", (), trained), loss, answers)


def test_the_figures_are_means_over_the_answers() -> None:
    one = measured(2.0, stops=3, loops=1)
    assert (one.stop_rate, one.looping_rate, one.repetition_rate) == (0.75, 0.25, 0.125)
    assert one.answer_tokens == 10


def test_the_verdict_is_for_the_trained_prompt_where_all_figures_are() -> None:
    said = verdict([measured(1.5, 4, 0, trained=True), measured(2.0, 2, 1), measured(3.0, 0, 3)])
    assert said == (
        "Under the prompt that it was trained with, the model is better: loss 1.500 against 2.500"
        " under the others on average, 100% of its answers stop by themselves against 25%, 0% end in"
        " a loop against 50%, and repetition is 0% against 25%."
    )


def test_the_verdict_is_against_it_or_open_where_the_figures_are() -> None:
    assert "is worse:" in verdict([measured(3.0, 0, 4), measured(1.0, 4, 0)])
    assert "neither better nor worse" in verdict([measured(1.0, 0, 4), measured(3.0, 4, 0)])
    assert "loss" not in verdict([measured(None, 4, 0), measured(None, 0, 0)])
    assert verdict([measured(1.0, 4, 0)]) == "There is no other prompt to compare with."


def test_the_trained_prompt_comes_first_and_once_under_the_name_it_is_given() -> None:
    text = named_preamble("pb2e") or ""
    trained = {"template": "alpaca", "preamble": text}
    prompts = prompts_to_compare(trained, "alpaca, pb2e,chatml,alpaca")
    assert [(one.name, one.trained) for one in prompts] == [
        ("pb2e", True),
        ("alpaca", False),
        ("chatml", False),
    ]
    assert [one.name for one in prompts_to_compare({"template": "alpaca"}, "alpaca")] == ["alpaca"]


def test_a_name_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        prompts_to_compare({"template": "alpaca"}, "poem")
    assert "pb2e" in refused.value.hint
