"""The Launcher protocol: three methods, and a handle that outlives the process that got it.

A launcher does not interpret what a run wrote: events.jsonl is read by its caller. Knows nothing of
the queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from corral.run import TrainingRun

# Whether a job, by its id, has ended or is no longer known.
JobIsOver = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True)
class Spending:
    """What a backend bills for. Seconds are this attempt's, `cost` (US dollars) is the whole job's so
    far; None where the price is not known.
    """

    gpu: str
    queued_seconds: float
    running_seconds: float
    cost: float | None


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
    # Whether the place it ran in failed, not the run: preempted, evicted, a node that was lost.
    infrastructure: bool = False
    # Code (of corral.errors) of the reason for which the backend ended it; empty: the run decided.
    code: str = ""
    # None where nobody bills. Two looks at one run differ by it, and are the same status.
    spending: Spending | None = field(default=None, compare=False)


class Launcher(Protocol):
    """Starts runs somewhere, finds them again, ends them: `start`, `poll` and `stop`."""

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        """Start `corral.training run_file` on as many processes and nodes as the run's spec asks for,
        several of them under torchrun. `run` is what the file says.

        Returns a handle, a string that any process of this deployment can poll and stop. Starting
        the same run file twice gives the run that is there. What earlier attempts at the job left
        running is ended. Raises LaunchError, or UnavailableError where a backend does not answer.
        """

    async def poll(self, handle: str) -> RunStatus:
        """The run's status. A handle whose run has vanished is a run that ended."""

    async def stop(self, handle: str, grace_seconds: float) -> None:
        """Ask the run to save and end; after the grace period kill all of its processes.

        Returns when none is left. Stopping what has ended clears away what the backend still keeps
        of it; where it keeps nothing, that does nothing. `grace_seconds` 0 kills.
        """

    def can_take_over(self, handle: str) -> bool:
        """Whether a run whose worker died goes on, and the job's next attempt should go on with it
        instead of ending it and starting another.
        """

    async def reap(self, is_over: JobIsOver) -> None:
        """End and clear away whatever is left, anywhere, of jobs that are over."""

    async def close(self) -> None:
        """Let go of connections, at the end of the process. Runs go on."""
