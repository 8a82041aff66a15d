"""Reads the rows of a JSON array or of JSONL one by one, in memory bounded by the largest row.

Knows nothing of what a row must hold: any JSON value is a row here. What can't be read comes out
as a row with a problem, in its place in the file, and never as an exception. So does what is wrong
with the file around its rows, which counts as none.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from corral.data.json_array import read_array
from corral.data.raw_rows import (
    MAX_ROW_BYTES,
    RawRow,
    bad_utf8,
    broken,
    checked_depth,
    too_big,
    too_deep,
)

_CHUNK_BYTES = 64 * 1024


def read_rows(stream: BinaryIO) -> Iterator[RawRow]:
    """The rows of a JSON array or of JSONL in UTF-8, with or without a byte order mark.

    The first character that is not white space tells which: "[" begins an array. After bad JSON a
    JSONL file goes on with its next line; an array ends there.
    """
    opening, line = _opening(stream)
    if opening.lstrip(b" \t\r\n").startswith(b"["):
        yield from read_array(stream, opening, line)
    else:
        yield from _read_lines(stream, opening, line)


def _opening(stream: BinaryIO) -> tuple[bytes, int]:
    """The first bytes, up to one that is not white space, without the byte order mark and whole
    blank lines; and the number of the line on which they begin.
    """
    head, line = b"", 1
    while len(head) < len(codecs.BOM_UTF8) and (more := stream.read(1)):
        head += more
    head = head.removeprefix(codecs.BOM_UTF8)
    while not head.strip(b" \t\r\n"):
        line += head.count(b"\n")
        head = stream.read(1)
        if not head:
            break
    blank = head[: len(head) - len(head.lstrip(b" \t\r\n"))].count(b"\n")
    return head.lstrip(b" \t\r\n"), line + blank


# ---------------------------------------------------------------- JSONL


def _read_lines(stream: BinaryIO, opening: bytes, line: int) -> Iterator[RawRow]:
    index = 0
    # The opening may itself hold whole lines, when the file's first row is a digit or two.
    pending = opening
    while True:
        if b"\n" in pending:
            text, _, pending = pending.partition(b"\n")
            text += b"\n"
        else:
            # Two more than a row may have: its \r\n.
            text = pending + stream.readline(MAX_ROW_BYTES + 2 - len(pending))
            pending = b""
        if not text:
            return
        is_too_big = len(text.rstrip(b"\r\n")) > MAX_ROW_BYTES
        if is_too_big and not text.endswith(b"\n"):
            _skip_line(stream)
        if text.strip(b" \t\r\n"):
            yield too_big(index, line) if is_too_big else _decode_line(index, line, text)
            index += 1
        line += 1


def _skip_line(stream: BinaryIO) -> None:
    while (rest := stream.readline(_CHUNK_BYTES)) and not rest.endswith(b"\n"):
        pass


def _decode_line(index: int, line: int, text: bytes) -> RawRow:
    try:
        return checked_depth(index, line, json.loads(text.decode("utf-8").rstrip("\r\n")))
    except UnicodeDecodeError as error:
        return bad_utf8(index, line, error.object[error.start : error.start + 1], line)
    except json.JSONDecodeError as error:
        around = error.doc[max(0, error.pos - 20) : error.pos + 20]
        hint = "" if index else " A JSON object must be on one line, or all rows in one array."
        message = f"not valid JSON: {error.msg} at column {error.colno}.{hint}"
        return broken(index, line, "json", message, around)
    except RecursionError:
        return too_deep(index, line)
    except ValueError as error:  # a number with thousands of digits
        return broken(index, line, "json", f"not valid JSON: {error}.")
