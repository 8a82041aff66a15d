"""LocalLauncher: runs on this machine, each under a supervisor process of its own.

The supervisor outlives whoever started it, so a worker that restarts finds its run by the handle.
Knows nothing of jobs, and does not import torch: it only spells torchrun's command.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from corral.errors import LaunchError, SpecError
from corral.launchers.base import JobIsOver, RunStatus
from corral.launchers.local_run import LocalRun
from corral.launchers.processes import MARK_VARIABLE
from corral.launchers.stop_file import ask_to_stop
from corral.launchers.supervise import LOG_NAME
from corral.launchers.torchrun import ENVIRONMENT, torchrun_command
from corral.run import TrainingRun
from corral.spec import TrainingSpec

DEFAULT_STOP_SECONDS = 60.0
_START_SECONDS = 30.0
# A process in the kernel's uninterruptible sleep (a lost network disk) does not even die of SIGKILL.
_KILL_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.02
# Enough to try out sharding on a small machine.
_MOST_PROCESSES_ON_FEW_CORES = 4
_OUTDATED = "A later attempt at the same job began."

# From a run file and a number of processes to the command line that trains.
CommandBuilder = Callable[[Path, int], list[str]]


class LocalLauncher:
    """The Launcher protocol with processes of this machine.

    `poll` and `stop` raise LaunchError for a string that is no handle of this launcher. A run whose
    folder was removed, or that was started on another machine or before a reboot, has ended.
    `start` kills what earlier attempts at the same job (a<attempt> beside it) have left running.
    """

    def __init__(
        self,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        stop_seconds: float = DEFAULT_STOP_SECONDS,
        command_builder: CommandBuilder | None = None,
    ) -> None:
        """`env` is the run's whole environment, by default this process' own when it starts;
        `stop_seconds` is how long a run may take to end after SIGTERM, whoever sent it, unless the
        run says so itself.
        """
        self._python = python
        self._env = env
        self._stop_seconds = stop_seconds
        self._command_builder = command_builder or torchrun(python)

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        _check_size(run.spec)
        # A worker may die after it has started a run and before it has recorded the handle. Nobody
        # else would ever end that run.
        for left in LocalRun.of_earlier_attempts(run_file.parent):
            if left.ended() is None:
                await _settle(left, RunStatus(is_running=False, signal="SIGKILL", detail=_OUTDATED))
        return await asyncio.to_thread(self._start, run_file, run)

    async def poll(self, handle: str) -> RunStatus:
        run = LocalRun.parse(handle)
        if run.is_running():
            return RunStatus(is_running=True)
        return run.ended() or await _settle(run, run.ended_unseen())

    async def stop(self, handle: str, grace_seconds: float) -> None:
        run = LocalRun.parse(handle)
        if grace_seconds > 0:
            await asyncio.to_thread(ask_to_stop, run.folder, grace_seconds)
            run.ask_to_stop()
            await _holds_within(lambda: not run.is_running(), grace_seconds)
        if run.is_running() or run.ended() is None:
            await _settle(run, RunStatus(is_running=False, signal="SIGKILL"))

    def can_take_over(self, handle: str) -> bool:
        """A run is ended with its worker: it has this machine to itself."""
        return False

    async def reap(self, is_over: JobIsOver) -> None:
        """Nothing is kept of a run that has ended."""

    async def close(self) -> None:
        """Nothing is held."""

    def _start(self, run_file: Path, run: TrainingRun) -> str:
        run_file, processes = run_file.absolute(), run.spec.processes
        folder = run_file.parent
        mark = f"{_run_name(folder)}-{secrets.token_hex(8)}"
        command = self._command_builder(run_file, processes)
        grace = self._stop_seconds if run.stop_seconds is None else run.stop_seconds
        try:
            with (folder / LOG_NAME).open("ab") as log:
                # Returns when the supervisor has detached itself and said its handle.
                found = subprocess.run(
                    self._supervised(mark, folder, grace, command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self._environment(mark, processes),
                    timeout=_START_SECONDS,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LaunchError(f"The run in {folder} could not be started: {error}.") from error
        handle = found.stdout.decode().strip()
        if not handle:
            raise LaunchError(
                f"The run in {folder} could not be started.", f"See {folder / LOG_NAME}."
            )
        return handle

    def _supervised(self, mark: str, folder: Path, grace: float, command: list[str]) -> list[str]:
        supervisor = [self._python, "-m", "corral.launchers.supervise", str(folder)]
        return [*supervisor, "--mark", mark, "--grace", str(grace), "--", *command]

    def _environment(self, mark: str, processes: int) -> dict[str, str]:
        defaults = {
            "OMP_NUM_THREADS": str(max(1, _cores() // processes)),
            **ENVIRONMENT,
        }
        given = os.environ if self._env is None else self._env
        return {**defaults, **given, MARK_VARIABLE: mark}


def torchrun(python: str) -> CommandBuilder:
    """The builder of the real command: torchrun on this machine alone."""

    def command(run_file: Path, processes: int) -> list[str]:
        return torchrun_command(
            run_file,
            name=_run_name(run_file.parent),
            nodes=1,
            processes_per_node=processes,
            python=python,
        )

    return command


async def _settle(run: LocalRun, status: RunStatus) -> RunStatus:
    """End what is left of a run, and record how it ended.

    A run of another machine can neither be ended from here nor spoken for.
    """
    if not run.is_here():
        return status
    killing = run.killing()
    # Twice, since a process in the middle of exec has no environment to be known by.
    if not await _holds_within(lambda: killing.is_done() and killing.is_done(), _KILL_SECONDS):
        raise LaunchError(
            f"Processes of the run in {run.folder} can't be killed.",
            "They wait for a device or a disk that does not answer.",
        )
    run.record_end(status)
    return status


async def _holds_within(condition: Callable[[], bool], seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return True


def _run_name(run: Path) -> str:
    """A run's folder is <job>/a<attempt>."""
    return f"{run.parent.name}-{run.name}"


def _check_size(spec: TrainingSpec) -> None:
    """Raises SpecError for a run that this machine has no room for."""
    if spec.nodes > 1:
        raise SpecError(
            f"nodes: the local launcher has one machine, not {spec.nodes}.",
            "Use nodes 1 with as many processes, or set CORRAL_LAUNCHER=kubernetes.",
        )
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    most = gpus or max(_cores(), _MOST_PROCESSES_ON_FEW_CORES)
    if spec.processes > most:
        have = f"{gpus} GPUs" if gpus else f"{_cores()} cores"
        raise SpecError(
            f"processes: {spec.processes} is more than this machine takes: {most}, with {have}."
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
