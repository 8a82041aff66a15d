"""A row as it was read, or what kept it from being read: what every way of reading gives.

Knows nothing of streams or of what a row must hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.data.problems import Problem, excerpt

MAX_ROW_BYTES = 1024 * 1024
MAX_DEPTH = 32


@dataclass(frozen=True)
class RawRow:
    """One row: its decoded value, or the problem that kept it from being decoded."""

    # From 0.
    index: int
    # From 1; where the row begins.
    line: int
    value: object = None
    problem: Problem | None = None
    # False for a problem of the array around the rows: it stands at the row before it.
    is_row: bool = True


def checked_depth(index: int, line: int, value: object) -> RawRow:
    """The row of a value, unless that is nested too deep."""
    return too_deep(index, line) if _deeper_than(value, MAX_DEPTH) else RawRow(index, line, value)


def _deeper_than(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def too_deep_message() -> str:
    """What is wrong with a row that is nested too deep."""
    return f"nested deeper than {MAX_DEPTH} levels."


def too_deep(index: int, line: int) -> RawRow:
    """A row that is nested too deep."""
    return broken(index, line, "depth", too_deep_message())


def too_big(index: int, line: int, more: str = "") -> RawRow:
    """A row above MAX_ROW_BYTES; `more` says what follows from it."""
    message = f"bigger than {MAX_ROW_BYTES // 1024} KiB. {more}".strip()
    return broken(index, line, "size", message)


def bad_utf8(index: int, line: int, byte: bytes, bad_line: int, more: str = "") -> RawRow:
    """A row with a byte that is no UTF-8, on `bad_line`."""
    message = f"not UTF-8: byte 0x{byte.hex()} on line {bad_line}. Save the file as UTF-8. {more}"
    return broken(index, line, "encoding", message.strip())


def broken(index: int, line: int, code: str, message: str, near: str = "") -> RawRow:
    """A row that could not be decoded, why, and the text around the place."""
    return RawRow(index, line, None, Problem(index, line, "", code, message, excerpt(near)))
