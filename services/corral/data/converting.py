"""Turns rows of instruction, input and output into rows of instruction and output.

Knows nothing of where the files lie.
"""

from __future__ import annotations

import json
from typing import BinaryIO, TextIO

from corral import formatting
from corral.data.problems import Problem
from corral.data.raw_rows import RawRow
from corral.data.reading import read_rows
from corral.data.rows import parse_row, row_format
from corral.errors import DatasetError

_PROBLEMS_IN_SENTENCE = 3


def convert_rows(source: BinaryIO, target: TextIO) -> int:
    """Write each Alpaca row as a line of JSON with its input joined to its instruction after a blank
    line, and return the number of rows. Further fields are left out.

    Raises DatasetError naming the first problems, once all rows were read.
    """
    rows = 0
    problems: list[Problem] = []
    for raw in read_rows(source):
        conversation, found = parse_row(raw)
        errors = [problem for problem in found if problem.severity == "error"]
        if not errors and row_format(raw.value) != "alpaca":
            errors = [_not_alpaca(raw)]
        problems += errors
        if conversation is None or problems:
            continue
        question, answer = conversation.messages
        row = {"instruction": question.text, "output": answer.content}
        target.write(json.dumps(row, ensure_ascii=False) + "\n")
        rows += 1
    if problems:
        shown = "; ".join(str(problem) for problem in problems[:_PROBLEMS_IN_SENTENCE])
        at_fault = formatting.count(len({problem.row for problem in problems}), "row")
        raise DatasetError(f"{at_fault} can't be converted: {shown}")
    if not rows:
        raise DatasetError("There is not one row in the file.")
    return rows


def _not_alpaca(raw: RawRow) -> Problem:
    message = "has no instruction and output; other formats need no converting."
    return Problem(raw.index, raw.line, "", "format", message)
