"""ModalLauncher: each attempt a call of a deployed function, each job a volume of its own.

What the run writes over there comes home into the folders in which a local run would have written
it, so that nobody but this room knows where it ran. Knows nothing of the queue.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from corral.errors import CorralError, LaunchError, UnavailableError
from corral.launchers.base import JobIsOver, RunStatus
from corral.launchers.modal.client import Connection
from corral.launchers.modal.ending import is_all_home, recorded_end
from corral.launchers.modal.following import Following
from corral.launchers.modal.functions import Functions
from corral.launchers.modal.handle import HANDLE_NAME, ModalHandle
from corral.launchers.modal.locking import only_one
from corral.launchers.modal.prices import TABLE, Rates, with_account_rates
from corral.launchers.modal.reaper import Reaper
from corral.launchers.modal.spawning import CommandBuilder, ModalOptions, Spawner
from corral.launchers.modal.volumes import Volumes
from corral.launchers.stop_file import STOP_NAME
from corral.launchers.supervise import create
from corral.run import TrainingRun
from corral.volume import Volume

_LOCK_NAME = ".modal-lock"
_LONGEST_PAUSE_SECONDS = 30.0
# Beyond the grace period: the container looks for the wish now and then, and carries what it saved.
_CARRY_SECONDS = 300.0
_CANCEL_SECONDS = 120.0

_log = structlog.stdlib.get_logger(__name__)

Answer = TypeVar("Answer")


class ModalLauncher:
    """The Launcher protocol with calls of a deployed function.

    A handle is JSON: app, call, volume, attempt. `poll` answers from what one task for each run
    last saw; `start` and `stop` wait out an outage for a while before they raise UnavailableError.
    """

    def __init__(
        self,
        connection: Connection,
        options: ModalOptions,
        command_builder: CommandBuilder | None = None,
    ) -> None:
        self._connection = connection
        self._options = options
        self._functions = Functions(connection)
        self._volumes = Volumes(connection)
        self._spawner = Spawner(self._functions, self._volumes, options, command_builder)
        self._reaper = Reaper(self._functions, self._volumes, options.deployment, self._settle)
        self._following: dict[str, Following] = {}
        self._rates: Rates | None = None

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        run_file = _absolute(run_file)
        async with only_one(run_file.parent.parent / _LOCK_NAME):
            started = _handle_of(run_file.parent)
            if started is None:
                await self._end_earlier(run_file.parent)
                started = await self._patiently(lambda: self._spawn(run_file, run))
                create(run_file.parent / HANDLE_NAME, json.loads(str(started)))
        if recorded_end(started.folder) is None:
            await self._follow(started)
        return str(started)

    async def poll(self, handle: str) -> RunStatus:
        run = ModalHandle.parse(handle)
        ended = recorded_end(run.folder)
        if ended is not None:
            await self._forget(handle)
            return ended
        return (await self._follow(run)).status

    async def stop(self, handle: str, grace_seconds: float) -> None:
        run = ModalHandle.parse(handle)
        if recorded_end(run.folder) is None:
            following = await self._follow(run)
            await self._patiently(lambda: self._ask_to_stop(run, grace_seconds))
            await self._patiently(following.look)
            if grace_seconds > 0 and following.has_begun:
                await following.ended_within(grace_seconds + _CARRY_SECONDS)
            if following.status.is_running:
                await self._kill(run, following)
        await self._forget(handle)

    def can_take_over(self, handle: str) -> bool:
        """It runs elsewhere, and stopping it would mean to wait for a GPU again."""
        return recorded_end(ModalHandle.parse(handle).folder) is None

    async def reap(self, is_over: JobIsOver) -> None:
        await self._patiently(lambda: self._reaper.reap(is_over))

    async def close(self) -> None:
        following, self._following = self._following, {}
        await asyncio.gather(*(one.close() for one in following.values()))
        await self._connection.close()

    # ------------------------------------------------------------ starting

    async def _spawn(self, run_file: Path, run: TrainingRun) -> ModalHandle:
        return await self._spawner.spawn(run_file, run, await self._known_rates())

    async def _end_earlier(self, folder: Path) -> None:
        """A worker may die after it has spawned a call and before it has recorded the handle."""
        for other in _attempts_beside(folder):
            earlier = _handle_of(other)
            if earlier is None or earlier.attempt >= _attempt(folder) or recorded_end(other):
                continue
            _log.info("ending an earlier attempt", job=earlier.job, attempt=earlier.attempt)
            await self.stop(str(earlier), 0)

    async def _known_rates(self) -> Rates:
        """The account's, or the table's where they can't be had."""
        if self._rates is None:
            try:
                self._rates = with_account_rates(await self._functions.rates())
            except CorralError as error:
                _log.info("the table's prices are used", reason=error.message)
                self._rates = TABLE
        return self._rates

    # ------------------------------------------------------------ what is left

    async def _settle(self, job: str) -> bool:
        """End what still runs of a job that is over, and bring home what it saved. Whether its volume
        holds nothing that is not home, and nobody asked to keep it.
        """
        attempts = _attempts_beside(Volume(self._options.data).run(job, 1).path)
        handles = [handle for folder in attempts if (handle := _handle_of(folder)) is not None]
        for handle in handles:
            if recorded_end(handle.folder) is None:
                await self.stop(str(handle), 0)
        kept = any(handle.keep_volume for handle in handles)
        return not kept and all(is_all_home(handle.folder) for handle in handles)

    # ------------------------------------------------------------ following

    async def _follow(self, run: ModalHandle) -> Following:
        handle = str(run)
        if handle not in self._following:
            rates, options = await self._known_rates(), self._options
            # Another task may have come first meanwhile.
            if handle not in self._following:
                self._following[handle] = Following(
                    run, self._functions, self._volumes, options.price(rates), options.pace
                )
        return self._following[handle]

    async def _forget(self, handle: str) -> None:
        following = self._following.pop(handle, None)
        if following is not None:
            await following.close()

    # ------------------------------------------------------------ stopping

    async def _ask_to_stop(self, run: ModalHandle, grace_seconds: float) -> None:
        wish = json.dumps({"grace_seconds": grace_seconds}).encode()
        path = f"runs/{run.job}/{run.folder.name}/{STOP_NAME}"
        with suppress(FileNotFoundError):
            await self._volumes.write(run.volume, {path: wish})

    async def _kill(self, run: ModalHandle, following: Following) -> None:
        following.expect_kill()
        await self._patiently(lambda: self._functions.cancel(run.call))
        if await following.ended_within(_CANCEL_SECONDS):
            return
        if await self._patiently(lambda: self._functions.outcome(run.call)) is None:
            raise LaunchError(
                f"The call {run.call} on Modal does not end.",
                f"End it there: modal app stop {run.app}",
            )
        following.give_up()

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The call's answer, once Modal gives one; after a while, UnavailableError."""
        pace = self._options.pace
        ends_by, pause = time.monotonic() + pace.patience_seconds, pace.retry_seconds
        while True:
            try:
                return await call()
            except UnavailableError as error:
                if time.monotonic() + pause > ends_by:
                    raise
                _log.warning("Modal does not answer", error=error.message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _handle_of(folder: Path) -> ModalHandle | None:
    """The handle that an attempt recorded; None where it ran elsewhere, or was not spawned."""
    try:
        text = (folder / HANDLE_NAME).read_text()
        return ModalHandle.parse(text)
    except (FileNotFoundError, LaunchError):
        return None


def _absolute(path: Path) -> Path:
    return path.absolute()


def _attempts_beside(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob("a*"))


def _attempt(folder: Path) -> int:
    number = folder.name.removeprefix("a")
    return int(number) if number.isdecimal() else 0
