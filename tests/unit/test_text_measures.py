"""Figures that tell a looping text from a sound one, on texts made for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.text_measures import LOOP_TIMES, ends_in_loop, loop_length, pieces, repetition

SOUND = "The capital of France is Paris, a city on the Seine with about two million inhabitants."


def test_a_text_falls_into_words_and_marks_in_lower_case() -> None:
    assert pieces("It's 3 o'clock, _Paul_!") == ["it's", "3", "o'clock", ",", "_", "paul", "_", "!"]
    assert pieces("猫が好き") == ["猫", "が", "好", "き"]
    assert pieces(" \n") == []


@pytest.mark.parametrize(
    ("sequence", "n", "share"),
    [
        ("abcdefgh", 4, 0.0),
        # Five 4-grams, all the same.
        ("aaaaaaaa", 4, 1 - 1 / 5),
        # Nine, of which abca, bcab and cabc differ.
        ("abcabcabcabc", 4, 1 - 3 / 9),
        ("abab", 2, 1 - 2 / 3),
        ("abc", 4, 0.0),
        ("", 4, 0.0),
    ],
)
def test_repetition_is_the_share_of_n_grams_that_stood_there_before(
    sequence: str, n: int, share: float
) -> None:
    assert repetition(sequence, n) == pytest.approx(share)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_repetition_is_a_share(sequence: list[int]) -> None:
    assert 0 <= repetition(sequence) < 1


@pytest.mark.parametrize(
    ("sequence", "length"),
    [
        ("xyz" + "ab" * 3, 2),
        # Cut within the phrase.
        ("xyz" + "abc" * 3 + "a", 3),
        # One item again and again is a phrase of two.
        ("xyaaaaaa", 2),
        # Twice only.
        ("xyz" + "abc" * 2, 0),
        ("abc" * 3 + "x", 0),
        ("", 0),
    ],
)
def test_a_loop_is_a_phrase_that_fills_the_end(sequence: str, length: int) -> None:
    assert loop_length(sequence) == length


@given(
    st.lists(st.integers(0, 5), max_size=10), st.lists(st.integers(0, 5), min_size=2, max_size=8)
)
def test_every_phrase_that_is_repeated_often_enough_is_found(
    before: list[int], phrase: list[int]
) -> None:
    found = loop_length([*before, *phrase * LOOP_TIMES])
    assert 0 < found <= len(phrase)


def test_a_sound_answer_does_not_loop() -> None:
    assert not ends_in_loop(SOUND, is_cut=True)
    assert repetition(pieces(SOUND)) == 0


def test_a_loop_within_one_long_word_is_seen() -> None:
    password = "Your password: " + "1234567890" * 9
    assert ends_in_loop(password, is_cut=True)


def test_an_answer_loops_if_it_was_cut_within_its_loop_but_not_if_it_stopped() -> None:
    looping = "I am a model. " + "I like cats, " * 5 + "I like"
    assert ends_in_loop(looping, is_cut=True)
    assert not ends_in_loop(looping, is_cut=False)
    assert repetition(pieces(looping)) > 0.5
