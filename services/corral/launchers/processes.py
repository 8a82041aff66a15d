"""Processes of this machine: who is alive, which belong to a run, and ending them.

A run's processes carry an environment variable with the run's mark. torchrun starts every rank in a
session of its own, so neither a process group nor a session holds a run together, and whoever loses
its parent goes to another; the mark stays. It is read from /proc; without /proc (macOS) a run is
the supervisor's process group, which ranks that lost their torchrun have left.

Standard library only: the supervisor imports this, and has to start at once.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MARK_VARIABLE = "CORRAL_RUN_MARK"

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


class _Stat(NamedTuple):
    parent: int
    start_time: str


def this_machine() -> str:
    """Where process ids mean what they mean here: this boot, and this container."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def start_time(pid: int) -> str | None:
    """When a process began, in the system's own words; None for one that has ended.

    With the pid it names a process for good: a pid alone is given to another one later. A zombie
    has ended, whether or not its parent has noticed.
    """
    return _start_time_in_proc(pid) if _HAS_PROC else _start_time_by_ps(pid)


def is_alive(pid: int, started: str) -> bool:
    """Whether that very process runs. Reaps it where it is a child of ours and has ended."""
    if start_time(pid) == started:
        return True
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return False


def of_run(mark: str, supervisor: int) -> set[int]:
    """Pids of all living processes of a run, the caller aside."""
    found = _marked(mark) if _HAS_PROC else _in_group(supervisor)
    return found - {os.getpid()}


def children(parent: int) -> set[int]:
    """Pids of the living children of a process. Without /proc, none are found."""
    stats = {int(folder.name): _stat(folder) for folder in _process_folders()}
    return {pid for pid, stat in stats.items() if stat and stat.parent == parent}


class Killing:
    """Kills processes, round after round, until none of them is left.

    `find` gives the pids to kill. A round may miss a process that forks or calls exec meanwhile,
    and one that was killed may take a while to give back its memory; it is then not found any more,
    but has not ended either.
    """

    def __init__(self, find: Callable[[], set[int]]) -> None:
        self._find = find
        self._dying: dict[int, str] = {}

    def is_done(self) -> bool:
        """One round; whether nothing was found, and all that was killed before has ended."""
        found = self._find()
        for pid in found:
            self._kill(pid)
        self._dying = {pid: began for pid, began in self._dying.items() if is_alive(pid, began)}
        return not found and not self._dying

    def _kill(self, pid: int) -> None:
        began = start_time(pid)
        if began is not None:
            self._dying[pid] = began
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _start_time_in_proc(pid: int) -> str | None:
    stat = _stat(_PROC / str(pid))
    return stat.start_time if stat else None


def _start_time_by_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _stat(folder: Path) -> _Stat | None:
    """What /proc says of a process; None where it has ended."""
    try:
        text = (folder / "stat").read_text(errors="replace")
    except OSError:
        return None
    # proc(5): the name in parentheses may hold anything. State, parent and start time are fields
    # 3, 4 and 22.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else _Stat(parent=int(fields[1]), start_time=fields[19])


def _marked(mark: str) -> set[int]:
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    return {int(folder.name) for folder in _process_folders() if wanted in _environment(folder)}


def _process_folders() -> list[Path]:
    return [path for path in _PROC.iterdir() if path.name.isdigit()] if _HAS_PROC else []


def _environment(folder: Path) -> list[bytes]:
    # Processes of other users can't be read, and are not ours. A zombie's is empty.
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _in_group(group: int) -> set[int]:
    answer = subprocess.run(
        ["ps", "-ax", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in answer.stdout.splitlines()]
    return {
        int(pid) for pid, pgid, state in rows if pgid == str(group) and not state.startswith("Z")
    }
