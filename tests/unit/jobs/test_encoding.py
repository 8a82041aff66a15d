"""Page tokens and fingerprints, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.job_builders import submission

from corral.errors import InvalidRequestError
from corral.jobs.encoding import fingerprint, pairs, rank_of, token_before


@given(st.integers(min_value=0, max_value=10**16))
def test_a_token_leads_back_to_its_rank(rank: int) -> None:
    assert rank_of(token_before(str(rank))) == str(rank)


@given(st.text())
def test_any_other_text_is_refused_as_a_token(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="page token"):
        rank_of(text)


def test_a_request_is_what_was_asked_for_not_its_id_or_key() -> None:
    assert fingerprint(submission("job-1", key="a")) == fingerprint(submission("job-2", key="b"))
    assert fingerprint(submission(epochs=1)) != fingerprint(submission(epochs=2))
    assert fingerprint(submission(dataset="a" * 64)) != fingerprint(submission(dataset="b" * 64))


def test_a_flat_answer_becomes_a_dictionary() -> None:
    assert pairs(["a", "1", "b", ""]) == {"a": "1", "b": ""}
