"""Holding a job: its lease is renewed, and a wish to cancel or to pause, or a lost lease, is noticed.

Knows nothing of runs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import structlog

from corral.errors import FencedError, JobNotFoundError, UnavailableError
from corral.jobs.records import Job, JobState, StateChanged
from corral.jobs.store import JobStore
from corral.trainer.tasks import end_tasks

_RENEWALS_PER_LEASE = 3
_RETRY_SECONDS = 0.5

_log = structlog.stdlib.get_logger(__name__)


class Lease:
    """An async context in which a claimed job stays this worker's.

    `cancel_wished` is set once a client asked to cancel, `pause_wished` once one asked to pause, `lost`
    once another attempt was claimed. An outage of the store sets none of them.
    """

    def __init__(self, store: JobStore, claimed: Job, seconds: float) -> None:
        self._store = store
        self._job = claimed
        self._seconds = seconds
        self._tasks: list[asyncio.Task[None]] = []
        self.cancel_wished = asyncio.Event()
        self.pause_wished = asyncio.Event()
        self.lost = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._notice(self._job.state)
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await end_tasks(self._tasks)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS_PER_LEASE)
            try:
                job = await self._store.renew(self._job.id, self._job.attempt, self._seconds)
                self._notice(job.state)
            except UnavailableError as error:
                _log.warning("lease not renewed", job=self._job.id, error=error.message)
            except (FencedError, JobNotFoundError):
                self.lost.set()
                return
            except Exception:  # noqa: BLE001 - whatever went wrong, the next renewal may go well
                _log.exception("lease not renewed", job=self._job.id)

    async def _watch(self) -> None:
        """Renewals show a wish to cancel or to pause too; this one shows it at once."""
        after = self._job.last_event
        while True:
            try:
                async for event in self._store.watch(self._job.id, after):
                    after = event.number
                    if isinstance(event.body, StateChanged):
                        self._notice(event.body.state)
            except UnavailableError:
                await asyncio.sleep(_RETRY_SECONDS)
            except JobNotFoundError:
                self.lost.set()
                return
            else:
                return

    def _notice(self, state: JobState) -> None:
        if state is JobState.CANCELLING:
            self.cancel_wished.set()
        if state is JobState.PAUSING:
            self.pause_wished.set()
