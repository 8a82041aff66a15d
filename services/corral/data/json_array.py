"""Reads a JSON array element by element, in memory bounded by the largest one.

Knows nothing of JSONL or of what a row must hold.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from corral.data.raw_rows import (
    MAX_ROW_BYTES,
    RawRow,
    bad_utf8,
    broken,
    checked_depth,
    too_big,
    too_deep_message,
)

_CHUNK_BYTES = 64 * 1024
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_NUMBER_GOES_ON = ("", *"0123456789.eE+-")
_REST_UNREAD = "The rest of the array can't be read."
_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")


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


def read_array(stream: BinaryIO, opening: bytes, line: int) -> Iterator[RawRow]:
    """The elements of an array whose first bytes, on line `line`, were read already.

    After what is no JSON the rest of an array can't be read.
    """
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
            return broken(index, line, "json", f"{too_deep_message()} {_REST_UNREAD}")
        except ValueError as error:
            return broken(index, line, "json", f"not valid JSON: {error}. {_REST_UNREAD}")
        else:
            if end - text.position > MAX_ROW_BYTES:
                return too_big(index, line, _REST_UNREAD)
            # A number may go on in what was not read yet: "1", "1." and "1e" of "1.5e3".
            if text.ended or text.buffer[end : end + 1] not in _NUMBER_GOES_ON:
                text.advance(end)
                return checked_depth(index, line, value)
        if len(text.buffer) - text.position > MAX_ROW_BYTES:
            return too_big(index, line, _REST_UNREAD)
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
        stopped = bad_utf8(max(0, index - 1), text.line, *text.bad_byte, _REST_UNREAD)
    else:
        message = message if rest else "the file ends before the array does"
        around = text.buffer[max(0, text.position - 20) : text.position + 20]
        message = f"not valid JSON: {message} on line {text.line}. {_REST_UNREAD}"
        stopped = broken(max(0, index - 1), text.line, "json", message, around)
    return replace(stopped, is_row=False)


def _undecodable(text: _Text, index: int, error: json.JSONDecodeError) -> RawRow:
    """The row at which an array stops being readable."""
    if text.bad_byte is not None:
        return bad_utf8(index, text.line, *text.bad_byte, _REST_UNREAD)
    around = text.buffer[max(0, error.pos - 20) : error.pos + 20]
    if _is_cut(text.buffer, error):
        message = f"not valid JSON: the file ends in the middle of row {index}."
        return broken(index, text.line, "json", message, around)
    line = text.line + text.buffer.count("\n", text.position, error.pos)
    message = f"not valid JSON: {error.msg} on line {line}. {_REST_UNREAD}"
    return broken(index, text.line, "json", message, around)


def _is_cut(buffer: str, error: json.JSONDecodeError) -> bool:
    """Whether more text could have made the value whole."""
    rest = buffer[error.pos :].rstrip(" \t\r\n")
    return error.msg.startswith("Unterminated string") or any(
        literal.startswith(rest) for literal in _LITERALS
    )
