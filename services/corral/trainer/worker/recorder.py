"""What one attempt tells the job store, each thing once, through any outage of the store.

Training goes on while Redis is away; what happened meanwhile is told when it is back. Two things end
the waiting: a lease that another worker took (FencedError), and a worker that shuts down
(UnavailableError; the next attempt finds on the volume what could not be told). Knows nothing of
runs or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from corral.errors import UnavailableError
from corral.jobs.records import (
    Event,
    EventBody,
    Failure,
    Job,
    JobState,
    PublishedCheckpoint,
    StateChanged,
)
from corral.jobs.store import JobStore

RETRY_SECONDS = 0.5

_log = structlog.stdlib.get_logger(__name__)


class Recorder:
    """The store as one attempt of one job may use it. One task at a time.

    `job` is the job as the last answer showed it.
    """

    def __init__(self, store: JobStore, claimed: Job, shutdown: asyncio.Event) -> None:
        self._store = store
        self._shutdown = shutdown
        self._id, self._attempt = claimed.id, claimed.attempt
        self.job = claimed

    async def started(self, handle: str) -> None:
        await self._until_answered(lambda: self._store.started(self._id, self._attempt, handle))

    async def record(self, bodies: Sequence[EventBody]) -> None:
        """Append events. A call whose answer was lost is not repeated if its events are there."""
        if not bodies:
            return
        before = self.job.last_event
        while True:
            try:
                self.job = await self._store.record(self._id, self._attempt, bodies)
            except UnavailableError as error:
                await self._pause(error)
                if await self._has_own_events(before):
                    return
            else:
                return

    async def publish(self, checkpoint: PublishedCheckpoint) -> None:
        await self._until_answered(lambda: self._store.publish(self._id, self._attempt, checkpoint))

    async def unpublish(self, steps: Sequence[int]) -> None:
        if steps:
            await self._until_answered(
                lambda: self._store.unpublish(self._id, self._attempt, steps)
            )

    async def finish(
        self, state: JobState, failure: Failure | None = None, reason: str = ""
    ) -> None:
        await self._until_answered(
            lambda: self._store.finish(self._id, self._attempt, state, failure, reason)
        )

    async def release(self, reason: str, *, strike: bool = False) -> None:
        await self._until_answered(
            lambda: self._store.release(self._id, self._attempt, reason, strike)
        )

    async def _until_answered(self, call: Callable[[], Awaitable[Job]]) -> None:
        while True:
            try:
                self.job = await call()
            except UnavailableError as error:
                await self._pause(error)
            else:
                return

    async def _has_own_events(self, after: int) -> bool:
        """Whether this attempt wrote events after that number: a record is atomic, and this
        attempt's only task is waiting here, so any such event means that all are there.
        """
        while True:
            try:
                self.job = await self._store.get(self._id)
                return any(map(self._is_own, await self._events(after, self.job.last_event)))
            except UnavailableError as error:
                await self._pause(error)

    def _is_own(self, event: Event) -> bool:
        return event.attempt == self._attempt and not isinstance(event.body, StateChanged)

    async def _events(self, after: int, last: int) -> list[Event]:
        found: list[Event] = []
        if after < last:
            async for event in self._store.watch(self._id, after):
                found.append(event)
                if event.number >= last:
                    break
        return found

    async def _pause(self, error: UnavailableError) -> None:
        _log.warning("the store does not answer", job=self._id, error=error.message)
        if self._shutdown.is_set():
            raise error
        with suppress(TimeoutError):
            await asyncio.wait_for(self._shutdown.wait(), RETRY_SECONDS)
