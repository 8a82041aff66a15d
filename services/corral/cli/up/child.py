"""One supervised process: started in a group of its own, started again when it dies, stopped.

Knows nothing of the other processes, nor of what this one does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corral.client.retrying import delays
from corral.errors import LaunchError

# So many times in a row may a process end before it was ready.
MOST_FAILURES = 5
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
LOG_TAIL_LINES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class ChildSpec:
    """What to run, and when it counts as ready.

    `wait_ready` returns once the process does its work; it is cancelled when the process ends.
    `stop_seconds` is how long it may take to end after SIGTERM.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    wait_ready: Callable[[], Awaitable[None]]
    stop_seconds: float


class Child:
    """A process that is kept running from `start` to `stop`."""

    def __init__(self, spec: ChildSpec, say: Say, inherited: Sequence[int] = ()) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self._say = say
        self._inherited = tuple(inherited)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin; the task only ends by failing: LaunchError when it keeps ending at once."""
        self._task = asyncio.create_task(self._keep_running(), name=self.spec.name)
        return self._task

    async def stop(self, force: asyncio.Event) -> None:
        """Ask the process to end, and kill it when it takes too long or `force` is set."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: however it failed, the process has to be stopped.
            await asyncio.wait((self._task,))
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process, signal.SIGTERM)
        ending = asyncio.create_task(process.wait())
        forcing = asyncio.create_task(force.wait())
        await asyncio.wait(
            (ending, forcing),
            timeout=self.spec.stop_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        forcing.cancel()
        if not ending.done():
            self._say(f"{self.spec.name} is killed.")
            _signal_group(process, signal.SIGKILL)
        await ending

    async def _keep_running(self) -> None:
        failures = 0
        pauses = delays(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            self._process = process = await self._spawn()
            if await self._becomes_ready(process):
                failures = 0
                pauses = delays(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                self.ready.set()
            else:
                failures += 1
            code = await process.wait()
            self.ready.clear()
            if failures == MOST_FAILURES:
                raise self._gave_up(code)
            self._say(f"{self.spec.name} {how_it_ended(code)}. It is started again.")
            await asyncio.sleep(next(pauses))

    async def _spawn(self) -> asyncio.subprocess.Process:
        wrapper = (sys.executable, "-m", "corral.cli.up.die_with_parent", str(os.getpid()))
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        # Straight into the file: a pipe through this process would break with it.
        with self.spec.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *wrapper,
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                # Out of reach of the terminal's Ctrl-C: this process stops them in their order.
                process_group=0,
                pass_fds=self._inherited,
            )

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Whether the process gets ready before it ends; one that can't tell in time is killed."""
        ready = asyncio.ensure_future(self.spec.wait_ready())
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            error = ready.exception() if ready.done() else None
            if ready.done() and error is None:
                return True
            if error is not None and not ended.done():
                self._say(f"{self.spec.name}: {error}")
                _signal_group(process, signal.SIGKILL)
            return False
        finally:
            ready.cancel()
            ended.cancel()

    def _gave_up(self, code: int) -> LaunchError:
        for line in log_tail(self.spec.log):
            self._say(f"  | {line}")
        return LaunchError(
            f"{self.spec.name} {how_it_ended(code)}, {MOST_FAILURES} times in a row"
            " before it was ready.",
            f"All that it said: {self.spec.log}",
        )


def how_it_ended(code: int) -> str:
    """A return code in words; -n stands for signal n."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log."""
    try:
        with path.open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
