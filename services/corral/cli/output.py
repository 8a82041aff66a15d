"""Where output goes: results on stdout, all else on stderr.

Knows how to ask whether a person is looking; knows nothing of what is shown.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def result(text: str) -> None:
    """A line of a command's result, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def result_json(value: Any) -> None:
    """A result for programs, on stdout: indented JSON."""
    result(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def dim(text: str) -> str:
    """The text for stderr, less bright where that can be shown."""
    return f"\x1b[2m{text}\x1b[0m" if is_live() else text


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
