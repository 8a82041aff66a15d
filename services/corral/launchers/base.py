"""The Launcher protocol: three methods, and a handle that outlives the process that got it.

A launcher does not interpret what a run wrote: events.jsonl is read by its caller. Knows nothing of
the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RunStatus:
    """Whether a run is still there.

    `exit_code` and `signal` are None while it runs and where they are not known: a run whose
    supervisor was killed leaves none.
    """

    is_running: bool
    exit_code: int | None = None
    signal: str | None = None
    # A sentence about why it ended or can't begin, where the backend knows one.
    detail: str = ""


class Launcher(Protocol):
    """Starts runs somewhere, finds them again, ends them."""

    async def start(self, run_file: Path, processes: int) -> str:
        """Start `torchrun -m corral.training run_file` on so many processes.

        Returns a handle, a string that any process of this deployment can poll and stop. Starting
        the same run file twice gives the run that is there. Raises LaunchError.
        """

    async def poll(self, handle: str) -> RunStatus:
        """The run's status. A handle whose run has vanished is a run that ended."""

    async def stop(self, handle: str, grace_seconds: float) -> None:
        """Ask the run to save and end; after the grace period kill all of its processes.

        Returns when none is left. Stopping what has ended does nothing. `grace_seconds` 0 kills.
        """
