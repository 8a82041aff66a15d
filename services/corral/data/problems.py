"""What is wrong with a row of a data set, in a form that a person can act on.

Knows nothing of where the rows come from or of what a row must look like.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

_EXCERPT_CHARACTERS = 60


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one row."""

    # From 0, in file order.
    row: int
    # From 1; the line where the row begins.
    line: int
    # Path of the field, "messages[2].role" say; empty where the row as a whole is meant.
    field: str
    # Stable, for programs: "json", "missing", "type", "empty", ...
    code: str
    message: str
    # A few characters of the offending value.
    excerpt: str = ""
    # The row can't be trained on; or it is, but probably not as meant.
    severity: Severity = "error"

    def __str__(self) -> str:
        where = f"line {self.line} (row {self.row})" + (f", {self.field}" if self.field else "")
        return f"{where}: {self.message}" + (f" [{self.excerpt}]" if self.excerpt else "")


def value_excerpt(value: object) -> str:
    """The first characters of a decoded value, in the form that it has in the file: JSON."""
    text = json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair can't be written anywhere; its escape can.
    return excerpt(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def excerpt(text: str) -> str:
    """The first characters of a text, on one line and printable."""
    start = text[: _EXCERPT_CHARACTERS + 1]
    shown = "".join(c if c.isprintable() else " " for c in start[:_EXCERPT_CHARACTERS])
    return shown + ("..." if len(start) > _EXCERPT_CHARACTERS else "")
