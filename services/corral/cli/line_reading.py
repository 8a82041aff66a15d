"""Lines that a person types at a prompt: edited, recalled from earlier starts, and over several lines.

A backslash at the end of a line goes on with the next; three double quotes begin a block that three
more end. Knows nothing of what is typed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MOST_LINES = 1000
_OWNER_ONLY = 0o600
_CONTINUATION = "... "
_QUOTES = '"""'


def history_file() -> Path:
    """Where earlier questions are kept: in XDG_STATE_HOME, or in ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "corral" / "chat_history"


def read_message(read_line: Callable[[str], str], prompt: str) -> str:
    """One message: a line, or the lines that belong together. Raises EOFError at the end.

    `read_line` is given the prompt to show. What was begun when the input ends is returned.
    """
    line = read_line(prompt)
    if line.lstrip().startswith(_QUOTES):
        return _block(line.lstrip().removeprefix(_QUOTES), read_line)
    lines = []
    while line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        try:
            line = read_line(_CONTINUATION)
        except EOFError:
            line = ""
    return "\n".join([*lines, line])


def _block(line: str, read_line: Callable[[str], str]) -> str:
    lines = []
    while _QUOTES not in line:
        lines.append(line)
        try:
            line = read_line(_CONTINUATION)
        except EOFError:
            line = _QUOTES
    lines.append(line.partition(_QUOTES)[0])
    return "\n".join(lines).strip("\n")


class Terminal:
    """Reads lines from stdin; the arrow keys recall those of earlier starts.

    Without the readline library lines are read all the same, only not edited or recalled.
    """

    def __init__(self, history: Path) -> None:
        self._history = history
        self._is_loaded = False

    def read_line(self, prompt: str) -> str:
        """A line that is typed. The prompt stays out of a redirected stdout. Raises EOFError."""
        if not self._is_loaded:
            self._is_loaded = True
            self._load()
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return input()

    def save(self) -> None:
        """Keep the last lines for the next start, readable by their owner only.

        Where that can't be, a chat is not spoilt by it.
        """
        try:
            import readline
        except ImportError:
            return
        if not self._is_loaded:
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made with its mode before anything stands in it.
            descriptor = os.open(self._history, os.O_WRONLY | os.O_CREAT, _OWNER_ONLY)
            os.fchmod(descriptor, _OWNER_ONLY)
            os.close(descriptor)
            readline.set_history_length(MOST_LINES)
            readline.write_history_file(self._history)

    def _load(self) -> None:
        # Imported for its effect too: input() then edits lines and recalls earlier ones.
        try:
            import readline
        except ImportError:
            return
        with suppress(OSError):
            readline.read_history_file(self._history)
