"""Follows one call on Modal to its end, and leaves in the run's folder what a local run would.

One task for each run, whoever polls: polls come five times a second, Modal is asked every few
seconds, and an outage is waited out with growing pauses. The end is recorded (exit.json) only once
everything is home. Knows nothing of the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from corral.errors import BudgetReachedError, CheckpointCorruptError, CorralError
from corral.launchers.base import RunStatus, Spending
from corral.launchers.modal.ending import record_end, recorded_end
from corral.launchers.modal.functions import Functions, Outcome
from corral.launchers.modal.handle import ModalHandle
from corral.launchers.modal.locking import only_one
from corral.launchers.modal.order import (
    BUDGET,
    FORGOTTEN,
    OWNER_NAME,
    SUPERSEDED,
    Exit,
    Owner,
    Status,
    cost_of,
)
from corral.launchers.modal.prices import dollars
from corral.launchers.modal.sync import Homecoming
from corral.launchers.modal.volumes import Volumes
from corral.volume import Volume

# Until then waiting for a GPU is nothing to speak of.
_QUEUE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 60.0
_LOCK_NAME = ".modal-lock"
# A checkpoint that does not become whole in so many looks after the run's end never will.
_MOST_DAMAGED_LOOKS = 5

# From GPUs as Modal names them to US dollars a second; None where that is not known.
Price = Callable[[str], float | None]

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often to look, in seconds, and how long to wait out an outage."""

    look_seconds: float = 5.0
    retry_seconds: float = 1.0
    patience_seconds: float = 120.0


class Following:
    """One run, from its spawn or from a restart of this process on."""

    def __init__(
        self,
        handle: ModalHandle,
        functions: Functions,
        volumes: Volumes,
        price: Price,
        pace: Pace,
    ) -> None:
        self._handle = handle
        self._functions = functions
        self._volumes = volumes
        self._price = price
        self._pace = pace
        self._homecoming = Homecoming(
            volumes,
            handle.volume,
            Volume(handle.folder.parents[2]),
            handle.job,
            handle.attempt,
        )
        self._looking = asyncio.Lock()
        self._is_owner_told = False
        self._is_kill_expected = False
        self._damaged_looks = 0
        self._told: Status | None = None
        self.status = RunStatus(is_running=True)
        self._task = asyncio.create_task(self._until_ended())

    @property
    def has_begun(self) -> bool:
        """Whether a container of this attempt has said so."""
        return self._told is not None and self._told.begun(self._handle.attempt) is not None

    async def close(self) -> None:
        """Look no more. The run goes on."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the run's end, but no longer than that; whether it came."""
        await asyncio.wait((self._task,), timeout=seconds)
        return not self.status.is_running

    async def look(self) -> RunStatus:
        """Ask now, and bring home what is new."""
        async with self._looking:
            if self.status.is_running:
                await self._look()
            return self.status

    def expect_kill(self) -> None:
        """From now on, a cancelled call is a run that we killed."""
        self._is_kill_expected = True

    def give_up(self) -> None:
        """The run was killed, and what it had saved can't be had now: the volume stays."""
        if self.status.is_running:
            killed = RunStatus(is_running=False, signal="SIGKILL", spending=self._spending())
            self._end(killed, is_home=False)

    async def _until_ended(self) -> None:
        pause = self._pace.retry_seconds
        while self.status.is_running:
            try:
                await self.look()
                pause, wait = self._pace.retry_seconds, self._pace.look_seconds
            except CorralError as error:
                _log.warning(
                    "the run on Modal can't be seen", job=self._handle.job, error=str(error)
                )
                self.status = RunStatus(True, detail=str(error), spending=self.status.spending)
                wait, pause = pause, min(pause * 2, _LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - the run goes on, and so must whoever follows it
                _log.exception("the run on Modal can't be seen", job=self._handle.job)
                wait = self._pace.look_seconds
            await asyncio.sleep(wait)

    async def _look(self) -> None:
        await self._tell_owner()
        outcome = await self._functions.outcome(self._handle.call)
        is_home = await self._bring(outcome)
        if outcome is None:
            self.status = RunStatus(True, detail=self._waiting(), spending=self._spending())
        else:
            self._end(self._ended(outcome), is_home=is_home)

    async def _bring(self, outcome: Outcome | None) -> bool:
        """Whether everything is home and as it was written."""
        try:
            # A worker that lost its lease may not know it yet, and still follow the run too.
            async with only_one(self._handle.folder / _LOCK_NAME):
                self._told = await self._homecoming.bring(is_over=outcome is not None) or self._told
        except CheckpointCorruptError as error:
            _log.warning("a checkpoint on Modal is not whole", error=error.message)
            self._damaged_looks += 1
            if outcome is None:
                return False
            if self._damaged_looks < _MOST_DAMAGED_LOOKS:
                raise
            return False
        except FileNotFoundError:
            # Removed between the listing and the reading: the next look sees it gone.
            return False
        return True

    async def _tell_owner(self) -> None:
        """Say on the volume which call it is, so that no other one of this spawn works too."""
        if self._is_owner_told:
            return
        with suppress(FileNotFoundError):
            owner = Owner.of_bytes(await self._volumes.read(self._handle.volume, OWNER_NAME))
            if owner is not None and owner.token == self._handle.token:
                mine = Owner(self._handle.token, self._handle.call)
                await self._volumes.write(self._handle.volume, {OWNER_NAME: mine.to_json()})
        self._is_owner_told = True

    def _waiting(self) -> str:
        queued = time.time() - self._handle.spawned_at
        if self.has_begun or queued < _QUEUE_SECONDS:
            return ""
        return "Modal has no GPU for the run yet; it waits in the queue, which costs nothing."

    def _spending(self) -> Spending | None:
        told, attempt = self._told, self._handle.attempt
        first = told.begun(attempt) if told is not None else None
        if told is None or first is None:
            return None
        return Spending(
            gpu=told.spans[-1].gpu,
            queued_seconds=max(0.0, first.began - self._handle.spawned_at),
            running_seconds=told.seconds(attempt),
            cost=self._cost(told),
        )

    def _cost(self, told: Status) -> float | None:
        found = {span.gpu: self._price(span.gpu) for span in told.spans}
        return cost_of(told.spans, {gpu: rate for gpu, rate in found.items() if rate is not None})

    def _ended(self, outcome: Outcome) -> RunStatus:
        spending = self._spending()
        if outcome.cancelled and self._is_kill_expected:
            return RunStatus(False, signal="SIGKILL", spending=spending)
        if outcome.result is None:
            # Where no step was made, trying for ever would cost without end.
            moved = self._told is not None and self._told.step > 0
            return RunStatus(
                False,
                detail=f"{outcome.detail}.",
                infrastructure=moved or outcome.cancelled,
                spending=spending,
            )
        ended = Exit(**outcome.result)
        return RunStatus(
            False,
            ended.exit_code,
            ended.signal,
            detail=self._why(ended, spending),
            infrastructure=ended.reason in (SUPERSEDED, FORGOTTEN),
            code=BudgetReachedError.code if ended.reason == BUDGET else "",
            spending=spending,
        )

    def _why(self, ended: Exit, spending: Spending | None) -> str:
        if ended.reason == BUDGET:
            cost = spending.cost if spending is not None else None
            so_far = "" if cost is None else f" after {dollars(cost)}"
            return (
                f"The run reached its budget (max_cost){so_far} and saved. Its checkpoints stay and "
                "can be used."
            )
        return {
            SUPERSEDED: "Another call works for the job.",
            FORGOTTEN: "Whoever started the run did not take note of it.",
        }.get(ended.reason, "")

    def _end(self, status: RunStatus, *, is_home: bool = True) -> None:
        record_end(self._handle.folder, status, is_home=is_home)
        self.status = recorded_end(self._handle.folder) or status
