"""One run on this machine, as its handle names it: whether it lives, how it ended, ending it.

A handle is the JSON that the run's supervisor wrote, see corral.launchers.supervise. Knows nothing
of commands or of starting.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import LaunchError
from corral.launchers.base import RunStatus
from corral.launchers.processes import Killing, is_alive, of_run, this_machine
from corral.launchers.supervise import EXIT_NAME, HANDLE_NAME, write_exit

_SUPERVISOR_KILLED = "The run's supervisor was killed, so its exit code is not known."
_ELSEWHERE = "The run was started on another machine, or before this one restarted."


@dataclass(frozen=True)
class LocalRun:
    """The content of a handle. `pid` and `start_time` are the supervisor's."""

    pid: int
    start_time: str
    machine: str
    mark: str
    folder: Path

    @classmethod
    def parse(cls, handle: str) -> LocalRun:
        """Raises LaunchError for a string that is no handle of the local launcher."""
        try:
            found = json.loads(handle)
            # An empty mark would be found in processes that are not ours.
            if found["kind"] != "local" or not found["mark"]:
                raise ValueError
            return cls(
                pid=int(found["pid"]),
                start_time=str(found["start_time"]),
                machine=str(found["machine"]),
                mark=str(found["mark"]),
                folder=Path(found["run"]),
            )
        except (ValueError, KeyError, TypeError):
            raise LaunchError(f"{handle!r:.80} is not a handle of the local launcher.") from None

    @classmethod
    def of_earlier_attempts(cls, folder: Path) -> list[LocalRun]:
        """The runs in sibling folders with a lower number: runs/<job>/a<attempt>."""
        handles = folder.parent.glob(f"a*/{HANDLE_NAME}")
        earlier = [path for path in handles if _attempt(path.parent) < _attempt(folder)]
        return [cls.parse(path.read_text()) for path in earlier]

    def is_here(self) -> bool:
        """Whether its process ids mean anything on this machine."""
        return self.machine == this_machine()

    def is_running(self) -> bool:
        return self.is_here() and is_alive(self.pid, self.start_time)

    def ended(self) -> RunStatus | None:
        """How it ended, if exit.json says so. Nothing of it is left then."""
        try:
            found: dict[str, Any] = json.loads((self.folder / EXIT_NAME).read_bytes())
        except FileNotFoundError:
            return None
        return RunStatus(
            is_running=False,
            exit_code=found["exit_code"],
            signal=found["signal"],
            detail=found.get("detail", ""),
        )

    def ended_unseen(self) -> RunStatus:
        """The status of a run whose end nobody recorded."""
        detail = _SUPERVISOR_KILLED if self.is_here() else _ELSEWHERE
        return RunStatus(is_running=False, detail=detail)

    def record_end(self, status: RunStatus) -> None:
        """Write exit.json unless there is one; the folder may be gone."""
        content = {
            "exit_code": status.exit_code,
            "signal": status.signal,
            "detail": status.detail,
        }
        with suppress(FileNotFoundError):
            write_exit(self.folder, content)

    def ask_to_stop(self) -> None:
        """SIGTERM to the supervisor, which passes it on."""
        if self.is_running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def killing(self) -> Killing:
        """What kills every process of the run, its supervisor included."""
        return Killing(lambda: of_run(self.mark, self.pid))


def _attempt(folder: Path) -> int:
    number = folder.name.removeprefix("a")
    return int(number) if number.isdecimal() else 0
