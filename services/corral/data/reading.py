"""Reads the rows of a JSON array or of JSONL one by one, in memory bounded by the largest row.

Knows nothing of what a row must hold: any JSON value is a row here. What can't be read comes out
as a row with a problem, in its place in the file, and never as an exception. So does what is wrong
with the file around its rows, which counts as none.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from corral.data.problems import Problem, excerpt

MAX_ROW_BYTES = 1024 * 1024
MAX_DEPTH = 32

_CHUNK_BYTES = 64 * 1024
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_NUMBER_GOES_ON = ("", *"0123456789.eE+-")
_REST_UNREAD = "The rest of the array can't be read."
_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")


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


def read_rows(stream: BinaryIO) -> Iterator[RawRow]:
    """The rows of a JSON array or of JSONL in UTF-8, with or without a byte order mark.

    The first character that is not white space tells which: "[" begins an array. After bad JSON a
    JSONL file goes on with its next line; an array ends there.
    """
    opening, line = _opening(stream)
    if opening.lstrip(b" \t\r\n").startswith(b"["):
        yield from _read_array(stream, opening, line)
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
        too_big = len(text.rstrip(b"\r\n")) > MAX_ROW_BYTES
        if too_big and not text.endswith(b"\n"):
            _skip_line(stream)
        if text.strip(b" \t\r\n"):
            yield _too_big(index, line) if too_big else _decode_line(index, line, text)
            index += 1
        line += 1


def _skip_line(stream: BinaryIO) -> None:
    while (rest := stream.readline(_CHUNK_BYTES)) and not rest.endswith(b"\n"):
        pass


def _decode_line(index: int, line: int, text: bytes) -> RawRow:
    try:
        return _checked_depth(index, line, json.loads(text.decode("utf-8").rstrip("\r\n")))
    except UnicodeDecodeError as error:
        return _bad_utf8(index, line, error.object[error.start : error.start + 1], line)
    except json.JSONDecodeError as error:
        around = error.doc[max(0, error.pos - 20) : error.pos + 20]
        hint = "" if index else " A JSON object must be on one line, or all rows in one array."
        message = f"not valid JSON: {error.msg} at column {error.colno}.{hint}"
        return _broken(index, line, "json", message, around)
    except RecursionError:
        return _too_deep(index, line)
    except ValueError as error:  # a number with thousands of digits
        return _broken(index, line, "json", f"not valid JSON: {error}.")


# ---------------------------------------------------------------- a JSON array


class _Text:
    """Decoded text ahead of a position, topped up from a stream of bytes."""

    def __init__(self, stream: BinaryIO, opening: bytes, line: int) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("strict")
        self._fed_line = line
        self.buffer = ""
        self.position = 0
        self.line = line
        self.ended = False
        # The byte that is not UTF-8 and its line, once one was met: the text ends before it.
        self.bad_byte: tuple[bytes, int] | None = None
        self._feed(opening)

    def _feed(self, data: bytes, *, final: bool = False) -> None:
        try:
            self.buffer += self._decode.decode(data, final)
            self._fed_line += data.count(b"\n")
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            self.buffer += good.decode("utf-8")
            bad = error.object[error.start : error.start + 1]
            self.bad_byte = (bad, self._fed_line + good.count(b"\n"))
            self.ended = True

    def top_up(self) -> bool:
        """Read on. False when there is nothing more."""
        if self.ended:
            return False
        self.buffer = self.buffer[self.position :]
        self.position = 0
        # Growing with what is held keeps the number of attempts to decode one big row small.
        data = self._stream.read(max(_CHUNK_BYTES, len(self.buffer)))
        self.ended = not data
        self._feed(data, final=not data)
        return True

    def advance(self, position: int) -> None:
        self.line += self.buffer.count("\n", self.position, position)
        self.position = position

    def next_character(self) -> str:
        """The next one that is not white space, not taken; empty at the end."""
        while True:
            found = _NOT_SPACE.search(self.buffer, self.position)
            if found is not None:
                self.advance(found.start())
                return found[0]
            self.advance(len(self.buffer))
            if not self.top_up():
                return ""


def _read_array(stream: BinaryIO, opening: bytes, line: int) -> Iterator[RawRow]:
    text = _Text(stream, opening, line)
    text.next_character()
    text.advance(text.position + 1)
    index = 0
    if text.next_character() == "]":
        text.advance(text.position + 1)
        yield from _trailing(text, index)
        return
    while True:
        if not text.next_character() or (index and text.next_character() == "]"):
            yield _stopped(text, index, 'a row expected before the "]"')
            return
        row = _decode_element(text, index)
        yield row
        # Text that could not be decoded has no end either: only a value too deep has one.
        if row.problem is not None and row.problem.code != "depth":
            return
        index += 1
        separator = text.next_character()
        if separator not in {",", "]"}:
            yield _stopped(text, index, f'"," or "]" expected after row {index - 1}')
            return
        text.advance(text.position + 1)
        if separator == "]":
            yield from _trailing(text, index)
            return


def _decode_element(text: _Text, index: int) -> RawRow:
    decoder = json.JSONDecoder()
    text.next_character()
    line = text.line
    while True:
        failure: json.JSONDecodeError | None = None
        try:
            value, end = decoder.raw_decode(text.buffer, text.position)
        except json.JSONDecodeError as error:
            failure = error
        except RecursionError:
            return _broken(index, line, "json", f"{_too_deep_message()} {_REST_UNREAD}")
        except ValueError as error:
            return _broken(index, line, "json", f"not valid JSON: {error}. {_REST_UNREAD}")
        else:
            if end - text.position > MAX_ROW_BYTES:
                return _too_big(index, line, _REST_UNREAD)
            # A number may go on in what was not read yet: "1", "1." and "1e" of "1.5e3".
            if text.ended or text.buffer[end : end + 1] not in _NUMBER_GOES_ON:
                text.advance(end)
                return _checked_depth(index, line, value)
        if len(text.buffer) - text.position > MAX_ROW_BYTES:
            return _too_big(index, line, _REST_UNREAD)
        if not text.top_up():
            # Without a failure the value was whole, and top_up is asked no further.
            assert failure is not None
            return _undecodable(text, index, failure)


def _trailing(text: _Text, index: int) -> Iterator[RawRow]:
    if text.next_character() or text.bad_byte:
        yield _stopped(text, index, "something follows the end of the array")


def _stopped(text: _Text, index: int, message: str) -> RawRow:
    """What is wrong behind row `index` - 1, where no row begins."""
    rest = text.buffer[text.position : text.position + 1]
    if text.bad_byte is not None and not rest:
        stopped = _bad_utf8(max(0, index - 1), text.line, *text.bad_byte, _REST_UNREAD)
    else:
        message = message if rest else "the file ends before the array does"
        around = text.buffer[max(0, text.position - 20) : text.position + 20]
        message = f"not valid JSON: {message} on line {text.line}. {_REST_UNREAD}"
        stopped = _broken(max(0, index - 1), text.line, "json", message, around)
    return replace(stopped, is_row=False)


def _undecodable(text: _Text, index: int, error: json.JSONDecodeError) -> RawRow:
    """The row at which an array stops being readable."""
    if text.bad_byte is not None:
        return _bad_utf8(index, text.line, *text.bad_byte, _REST_UNREAD)
    around = text.buffer[max(0, error.pos - 20) : error.pos + 20]
    if _is_cut(text.buffer, error):
        message = f"not valid JSON: the file ends in the middle of row {index}."
        return _broken(index, text.line, "json", message, around)
    line = text.line + text.buffer.count("\n", text.position, error.pos)
    message = f"not valid JSON: {error.msg} on line {line}. {_REST_UNREAD}"
    return _broken(index, text.line, "json", message, around)


def _is_cut(buffer: str, error: json.JSONDecodeError) -> bool:
    """Whether more text could have made the value whole."""
    rest = buffer[error.pos :].rstrip(" \t\r\n")
    return error.msg.startswith("Unterminated string") or any(
        literal.startswith(rest) for literal in _LITERALS
    )


# ---------------------------------------------------------------- rows that can't be used


def _checked_depth(index: int, line: int, value: object) -> RawRow:
    return _too_deep(index, line) if _deeper_than(value, MAX_DEPTH) else RawRow(index, line, value)


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


def _too_deep_message() -> str:
    return f"nested deeper than {MAX_DEPTH} levels."


def _too_deep(index: int, line: int) -> RawRow:
    return _broken(index, line, "depth", _too_deep_message())


def _too_big(index: int, line: int, more: str = "") -> RawRow:
    message = f"bigger than {MAX_ROW_BYTES // 1024} KiB. {more}".strip()
    return _broken(index, line, "size", message)


def _bad_utf8(index: int, line: int, byte: bytes, bad_line: int, more: str = "") -> RawRow:
    message = f"not UTF-8: byte 0x{byte.hex()} on line {bad_line}. Save the file as UTF-8. {more}"
    return _broken(index, line, "encoding", message.strip())


def _broken(index: int, line: int, code: str, message: str, near: str = "") -> RawRow:
    return RawRow(index, line, None, Problem(index, line, "", code, message, excerpt(near)))
