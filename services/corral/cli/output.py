"""Where output goes: results on stdout, all else on stderr.

What a terminal would take for a command, a row's or an answer's escape sequence say, is shown as
text. Knows how to ask whether a person is looking; knows nothing of what is shown.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# All of C0 and C1 but tab and newline, and DEL.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def result(text: str) -> None:
    """A line of a command's result, on stdout."""
    piece(text + "\n")


def piece(text: str) -> None:
    """A piece of a result, on stdout at once; it may end within a line."""
    sys.stdout.write(printable(text, sys.stdout))
    sys.stdout.flush()


def result_json(value: Any) -> None:
    """A result for programs, on stdout: indented JSON."""
    result(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str, *, dim: bool = False) -> None:
    """A line for the person, on stderr; `dim` where it should stand back."""
    shown = printable(text, sys.stderr)
    sys.stderr.write(f"\x1b[2m{shown}\x1b[0m\n" if dim and is_live() else f"{shown}\n")
    sys.stderr.flush()


def printable(text: str, stream: TextIO) -> str:
    r"""The text, with control characters as \x1b and the like where the stream is a terminal."""
    if not stream.isatty():
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def is_live() -> bool:
    """Whether stderr is a terminal on which bars may move and colours show."""
    return (
        sys.stderr.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


def stderr_console() -> Console:
    """A console of rich on stderr. Imports rich, so call it where something is drawn."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on, while it does."""
    if not is_live():
        yield
        return
    with stderr_console().status(what):
        yield


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in line, numbers to the right; never cut, so that names can be copied."""
    cells = [[header.upper() for header in headers], *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    right = [bool(rows) and all(_is_number(row[c]) for row in rows) for c in range(len(headers))]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """One thing's fields, a line each; a field without a value is left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in ("", "-")
