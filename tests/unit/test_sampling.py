"""Options of a user are checked, each with a sentence that says what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from corral.errors import InvalidRequestError
from corral.sampling import MAX_STOPS, SamplingOptions, parse_sampling


def test_what_is_not_given_takes_the_defaults() -> None:
    assert parse_sampling({}) == SamplingOptions()
    assert parse_sampling({"seed": 7}).max_tokens == 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("seed", 2**63),
        ("stop", ("",)),
        ("stop", ("x",) * (MAX_STOPS + 1)),
        ("beams", 4),
    ],
)
def test_an_impossible_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_sampling({field: value})
    assert field in refused.value.message


def test_every_field_at_fault_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"temperature: 9 .*; top_k: -5 "):
        parse_sampling({"temperature": 9, "top_k": -5})
