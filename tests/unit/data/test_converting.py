"""Instruction, input and output become instruction and output."""

from __future__ import annotations

import io
import json

import pytest
from tests.data_builders import ROW, jsonl

from corral.data.converting import convert_rows
from corral.errors import DatasetError


def test_the_input_is_joined_after_a_blank_line() -> None:
    target = io.StringIO()
    rows = [{**ROW, "input": "Übung"}, ROW]
    assert convert_rows(jsonl(*rows), target) == 2
    assert [json.loads(line) for line in target.getvalue().splitlines()] == [
        {"instruction": "Who are you?\n\nÜbung", "output": "A ranch hand."},
        ROW,
    ]


@pytest.mark.parametrize("row", [{"instruction": "a"}, {"prompt": "a", "completion": "b"}, 3])
def test_a_row_that_can_not_be_converted_is_named(row: object) -> None:
    with pytest.raises(DatasetError, match=r"line 2 \(row 1\)"):
        convert_rows(jsonl(ROW, row), io.StringIO())


def test_rows_that_can_not_be_converted_are_counted_once_each() -> None:
    with pytest.raises(DatasetError, match=r"^1 row can't be converted: .*instruction.*output"):
        convert_rows(jsonl(ROW, {"instruction": 1, "output": 2}), io.StringIO())


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(DatasetError, match="not one row"):
        convert_rows(jsonl(), io.StringIO())
