"""What a run printed, made fit for an event: plain text, short lines, not too many.

Knows nothing of the store.
"""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_LINE = 500
# A run that prints more between two looks has the middle left out of its events; the file has all.
MOST_LINES_AT_ONCE = 50
TAIL_LINES = 50
_TAIL_BYTES = 64 * 1024

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# How glog begins a line of level error from torchrun's own process, as torch 2.13 writes it.
_TORCHRUN_REPORT = re.compile(
    r"E\d{4} [\d:.]+ +\d+ .*torch/distributed/elastic/multiprocessing/api"
)
# The same process' summary of the rank that ended first.
_RANK_WAS_KILLED = re.compile(r"exitcode\s*: -9\b")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean_line(raw: str) -> str:
    """A line as a terminal would leave it: without colours, and the last state of a progress bar."""
    shown = _ANSI.sub("", raw).rstrip("\r").rpartition("\r")[2]
    plain = _CONTROL.sub("", shown).rstrip()
    return plain if len(plain) <= LONGEST_LINE else plain[: LONGEST_LINE - 1] + "…"


def clean_lines(raw: list[str]) -> list[str]:
    """The lines that say something, at most MOST_LINES_AT_ONCE of them and a word about the rest."""
    lines = [line for line in map(clean_line, raw) if line]
    left_out = len(lines) - MOST_LINES_AT_ONCE
    if left_out <= 0:
        return lines
    half = MOST_LINES_AT_ONCE // 2
    return [*lines[:half], f"… {left_out} lines left out …", *lines[-half:]]


def rank_was_killed(log: Path) -> bool:
    """Whether torchrun's report at the end of a log says that a process was killed by SIGKILL."""
    return any(_RANK_WAS_KILLED.search(line) for line in _last_lines(log))


def log_tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log that may not exist, its unfinished last one included.

    Without what torchrun adds when a rank fails: a traceback of its own and a table, 40 lines that
    push out the rank's.
    """
    lines = _last_lines(log)
    report = next((at for at, line in enumerate(lines) if _TORCHRUN_REPORT.match(line)), len(lines))
    return tuple(lines[:report][-TAIL_LINES:])


def _last_lines(log: Path) -> list[str]:
    """The whole lines within the log's last _TAIL_BYTES, those that say something."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            raw = file.read().decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    whole = raw if size <= _TAIL_BYTES else raw[1:]
    return [line for line in map(clean_line, whole) if line]
