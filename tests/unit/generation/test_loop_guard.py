"""Loops are ended soon, sound answers never."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_models import tiny_gpt2

from corral.data.tokenizing import TextTokenizer
from corral.generation.loop_guard import LONGEST, TIMES, TOKENS, LoopGuard, loops

ROOT = Path(__file__).parents[3]
REAL_ROWS = ROOT.parent / "shared/data/alpaca_en_demo.json"
SHIPPED_ROWS = ROOT / "examples/ranch_hand.jsonl"


def noticed_at(tokens: list[int]) -> int | None:
    """How many tokens the guard has seen when it says so."""
    guard = LoopGuard()
    return next((at for at, token in enumerate(tokens, 1) if guard.push(token)), None)


@given(st.integers(1, LONGEST), st.integers(0, 100))
def test_a_phrase_that_goes_on_and_on_is_noticed(phrase: int, before: int) -> None:
    lead = [10_000 + at for at in range(before)]
    answer = lead + list(range(phrase)) * 60
    at = noticed_at(answer)
    assert at is not None
    repeated = at - before
    assert max(TIMES * phrase, TOKENS) <= repeated <= max(TIMES * phrase, TOKENS) + 1


@given(st.lists(st.integers(0, 5), max_size=300))
def test_what_is_noticed_is_a_loop(tokens: list[int]) -> None:
    at = noticed_at(tokens)
    if at is None:
        return
    seen = tokens[:at]
    assert any(
        phrase * TIMES <= at and all(seen[-1 - i] == seen[-1 - i - phrase] for i in range(need))
        for phrase in range(1, LONGEST + 1)
        if (need := max((TIMES - 1) * phrase, TOKENS - phrase)) + phrase <= at
    )


def test_a_number_row_and_a_refrain_are_no_loops() -> None:
    assert not loops(list(range(500)))
    verse = list(range(100, 130))
    refrain = list(range(12))
    assert not loops([*verse, *refrain, *verse[::-1], *refrain, *refrain, *verse, *refrain])


@pytest.mark.torch
def test_sound_answers_are_never_ended(tmp_path: Path) -> None:
    answers = [json.loads(line)["output"] for line in SHIPPED_ROWS.read_text().splitlines()]
    if REAL_ROWS.exists():
        answers += [row["output"] for row in json.loads(REAL_ROWS.read_text())]
    assert len(answers) >= 200 or not REAL_ROWS.exists()
    # A tokenizer that parts words into many tokens makes the longest phrases and the most repetition.
    tokenizer = TextTokenizer.from_folder(tiny_gpt2(tmp_path / "gpt2"))
    encode = tokenizer._engine.encode
    ended = [answer for answer in answers if loops(encode(answer).ids)]
    assert ended == []
