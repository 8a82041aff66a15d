"""Rows out of bytes: both forms, whatever the pieces they arrive in, and all that may be broken."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data_builders import stream

from corral.data.raw_rows import MAX_ROW_BYTES, RawRow
from corral.data.reading import read_rows

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a socket may."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._content, self._sizes, self._calls = content, sizes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._sizes[self._calls % len(self._sizes)])
        self._calls += 1
        piece, self._content = self._content[:size], self._content[size:]
        buffer[: len(piece)] = piece
        return len(piece)


def read(content: str | bytes) -> list[RawRow]:
    return list(read_rows(stream(content)))


def problems(content: str | bytes) -> list[tuple[int, int, str]]:
    return [(r.index, r.line, r.problem.code) for r in read(content) if r.problem is not None]


@given(
    rows=st.lists(JSON_VALUES, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    mark=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_an_array_is_read_the_same_whatever_its_layout_and_pieces(
    rows: list[Any], indent: int | None, ascii_only: bool, mark: bool, sizes: list[int]
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    data = content.encode("utf-8-sig" if mark else "utf-8", "surrogatepass")
    found = list(read_rows(Trickle(data, sizes)))
    assert [row.value for row in found] == rows
    assert [row.index for row in found] == list(range(len(rows)))


@given(
    rows=st.lists(JSON_VALUES.filter(lambda v: not isinstance(v, list)), max_size=6),
    ending=st.sampled_from(["\n", "\r\n", "\n\n"]),
    mark=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_jsonl_is_read_the_same_whatever_its_endings_and_pieces(
    rows: list[Any], ending: str, mark: bool, sizes: list[int]
) -> None:
    content = "".join(json.dumps(row, ensure_ascii=False) + ending for row in rows)
    data = content.encode("utf-8-sig" if mark else "utf-8")
    found = list(read_rows(Trickle(data, sizes)))
    assert [row.value for row in found] == rows
    step = ending.count("\n")
    assert [row.line for row in found] == [1 + step * at for at in range(len(rows))]


def test_rows_of_an_array_carry_the_line_on_which_they_begin() -> None:
    assert [row.line for row in read('\n[\n  {"a": 1},\n\n  {"b":\n 2}, 3\n]\n')] == [3, 5, 6]


def test_jsonl_goes_on_after_a_bad_line() -> None:
    found = read('{"a": 1}\n{broken\n{"b": 2}\n')
    assert [row.value for row in found] == [{"a": 1}, None, {"b": 2}]
    assert problems('{"a": 1}\n{broken\n{"b": 2}\n') == [(1, 2, "json")]


def test_an_array_ends_at_bad_json_and_says_so() -> None:
    found = read('[{"a": 1},\n{"b": 2},\n{broken,\n{"c": 3}]')
    assert [row.value for row in found[:2]] == [{"a": 1}, {"b": 2}]
    assert len(found) == 3
    assert found[2].problem is not None
    assert "on line 3" in found[2].problem.message
    assert "rest of the array can't be read" in found[2].problem.message


@pytest.mark.parametrize(
    "content", ["[1, 2", "[1,", "[", "[1 2]", "[1,]", "[1] 2", '["half', "[1]]", "[,1]"]
)
def test_an_array_that_is_not_one_is_a_problem(content: str) -> None:
    assert [code for *_, code in problems(content)] == ["json"]


@pytest.mark.parametrize(
    "content", ["[1, 2", "[1, 2,", "[1, 2,]", "[1, 2] 3", "[1, 2]]", "[1, 2 3]"]
)
def test_what_is_wrong_behind_the_rows_is_no_row(content: str) -> None:
    *rows, behind = read(content)
    assert [row.value for row in rows] == [1, 2]
    assert (behind.is_row, behind.index) == (False, 1)


@pytest.mark.parametrize(
    "cut",
    ['{"a": "b', '{"a": "b"', '{"a": ', '{"a": tr', '{"a": 1, ', '{"a"', "{", '{"a": [1', "-"],
)
def test_a_file_that_ends_within_a_row_is_told_so(cut: str) -> None:
    [problem] = [row.problem for row in read(f"[1, {cut}") if row.problem is not None]
    assert problem.message == "not valid JSON: the file ends in the middle of row 1."


def test_a_column_is_of_the_line_that_was_cut() -> None:
    [row] = read('{"a": 1\n')
    assert row.problem is not None
    assert "at column 8" in row.problem.message


@pytest.mark.parametrize(
    ("content", "line"), [(b'{"a": "x"}\n"\xff"\n', 2), (b'["a",\n"\xff"]', 2)]
)
def test_bad_utf8_is_a_problem_with_its_line(content: bytes, line: int) -> None:
    found = read(content)
    assert found[0].value is not None
    assert found[1].problem is not None
    assert found[1].problem.code == "encoding"
    assert f"0xff on line {line}" in found[1].problem.message


def test_utf16_is_told_as_not_utf8() -> None:
    assert problems('{"a": 1}'.encode("utf-16"))[0][2] == "encoding"


def test_a_line_too_big_is_a_problem_and_the_next_is_read() -> None:
    content = '"' + "x" * MAX_ROW_BYTES + '"\n{"a": 1}\n'
    assert problems(content) == [(0, 1, "size")]
    assert read(content)[1] == RawRow(1, 2, {"a": 1})


def test_a_line_of_just_the_limit_is_read() -> None:
    for ending in ("\n", "\r\n", ""):
        content = '"' + "x" * (MAX_ROW_BYTES - 2) + '"' + ending
        assert [len(str(row.value)) for row in read(content)] == [MAX_ROW_BYTES - 2]


def test_reading_a_huge_array_element_stops_early() -> None:
    source = stream('["' + "x" * (8 * MAX_ROW_BYTES) + '"]')
    assert [row.problem.code for row in read_rows(source) if row.problem] == ["size"]
    assert source.tell() < 4 * MAX_ROW_BYTES


def test_nesting_is_limited() -> None:
    def nested(depth: int) -> str:
        return '{"a":' * depth + "1" + "}" * depth

    assert problems(nested(32)) == []
    assert problems(f"{nested(33)}\n{nested(1)}") == [(0, 1, "depth")]
    assert problems(f"[{nested(33)}, {nested(1)}]") == [(0, 1, "depth")]


def test_nesting_too_deep_to_decode_is_a_problem() -> None:
    assert problems("[" * 100_000) == [(0, 1, "json")]
    assert problems('{"a":' * 100_000 + "\n{}") == [(0, 1, "depth")]


def test_a_number_of_thousands_of_digits_is_a_problem() -> None:
    digits = "9" * 10_000
    assert [code for *_, code in problems(f"{digits}\n[1]\n")] == ["json"]
    assert [code for *_, code in problems(f"[{digits}]")] == ["json"]


def test_an_empty_file_has_no_rows() -> None:
    for content in ("", " \n\n", "\ufeff", "[]", " [ ]\n"):
        assert read(content) == []
