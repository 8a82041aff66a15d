"""Text appears in whole characters, joined it is the whole, and it ends before the stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from corral.generation.text import REPLACEMENT, Detokenizer, StopMatcher

# Emoji of several code points, combining characters, scripts of 2, 3 and 4 bytes a character.
TEXT = st.text(max_size=40) | st.text("ab e\u0301é👩‍👩‍👧🇩🇪漢字\ufffd\n", max_size=40)


def byte_tokenizer() -> Tokenizer:
    """Byte-level, one token a byte: the id is the byte, so that any border can be tried."""
    alphabet = decoders_alphabet()
    vocabulary = {character: byte for byte, character in alphabet.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def decoders_alphabet() -> dict[int, str]:
    """GPT-2's bytes_to_unicode: printable bytes are themselves, the rest move up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + at) for at, byte in enumerate(moved)
    }


def sentencepiece_tokenizer() -> Tokenizer:
    """Llama 2's kind: ▁ for spaces, bytes as tokens, the first space dropped."""
    words = ["<unk>", "▁", "▁the", "▁cat", "s", "▁▁", "é", "\n"]
    vocabulary = {word: at for at, word in enumerate(words)}
    vocabulary |= {f"<0x{byte:02X}>": len(words) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def pieces_of(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(decode)
    return [*(detokenizer.push(token) for token in ids), detokenizer.flush()]


@given(TEXT)
def test_pieces_of_single_bytes_join_to_the_text(text: str) -> None:
    pieces = pieces_of(byte_tokenizer().decode, list(text.encode()))
    assert "".join(pieces) == text


@given(st.lists(st.integers(0, 255), max_size=40))
def test_pieces_of_any_bytes_join_to_the_decoded_whole(ids: list[int]) -> None:
    decode = byte_tokenizer().decode
    assert "".join(pieces_of(decode, ids)) == decode(ids)


@given(st.lists(st.integers(1, 7), max_size=30))
def test_sentencepiece_spaces_survive_except_the_first(ids: list[int]) -> None:
    decode = sentencepiece_tokenizer().decode
    assert "".join(pieces_of(decode, ids)) == decode(ids)


@given(st.lists(st.sampled_from(["▁the", "▁cat", "s", "é", "🙂", "漢"]), max_size=20))
def test_bytes_as_tokens_join_to_characters(words: list[str]) -> None:
    tokenizer = sentencepiece_tokenizer()
    ids: list[int] = []
    for word in words:
        whole = tokenizer.token_to_id(word)
        as_bytes = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in word.encode()]
        ids += as_bytes if whole is None else [whole]
    pieces = pieces_of(tokenizer.decode, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_half_a_character_is_never_shown() -> None:
    detokenizer = Detokenizer(byte_tokenizer().decode)
    shown = [detokenizer.push(byte) for byte in "a🙂b".encode()]
    assert shown == ["a", "", "", "", "🙂", "b"]


def test_an_answer_that_ends_within_a_character_shows_the_replacement() -> None:
    assert pieces_of(byte_tokenizer().decode, list("é".encode()[:1])) == ["", REPLACEMENT]


@given(st.text("ab ", min_size=50, max_size=300))
def test_only_the_last_tokens_are_decoded_again(text: str) -> None:
    decode = byte_tokenizer().decode
    longest = 0

    def counting(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    assert "".join(pieces_of(counting, list(text.encode()))) == text
    assert longest <= 4


# ---------------------------------------------------------------- stop strings


def text_before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The plain definition: read a character at a time until some stop string is complete."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


def stream(pieces: Sequence[str], stops: Sequence[str]) -> tuple[list[str], bool]:
    matcher = StopMatcher(stops)
    shown = []
    for piece in pieces:
        shown.append(matcher.push(piece))
        if matcher.stopped:
            return shown, True
    return [*shown, matcher.flush()], False


@given(
    st.lists(st.text("abc", max_size=4), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_the_text_ends_before_the_first_stop_string_wherever_pieces_begin(
    pieces: list[str], stops: list[str]
) -> None:
    shown, stopped = stream(pieces, stops)
    assert ("".join(shown), stopped) == text_before_stop("".join(pieces), stops)


@given(
    st.lists(st.text("abc", max_size=4), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_no_more_is_held_back_than_could_become_a_stop_string(
    pieces: list[str], stops: list[str]
) -> None:
    matcher = StopMatcher(stops)
    read = shown = ""
    for piece in pieces:
        read += piece
        shown += matcher.push(piece)
        if matcher.stopped:
            return
        held = read.removeprefix(shown)
        assert read == shown + held
        assert not held or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize("pieces", [["Hello\n\nUser", ": you"], list("Hello\n\nUser: you")])
def test_a_stop_string_across_pieces_is_found(pieces: list[str]) -> None:
    shown, stopped = stream(pieces, ["\nUser:"])
    assert ("".join(shown), stopped) == ("Hello\n", True)
