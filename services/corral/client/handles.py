"""Job and AsyncJob: a job's values, and what can be done with it.

Knows nothing of how calls are made; connections do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field

from corral.client.aio import AsyncConnection
from corral.client.channels import ignore
from corral.client.connection import Connection
from corral.client.events import Event
from corral.client.outcome import failure_error
from corral.client.reading import read
from corral.client.retrying import ENDED_EARLY_SECONDS, LOST, Patience
from corral.client.values import JobValues
from corral.client.wire import END_STATES
from corral.errors import ConflictError, CorralError
from corral.v1 import trainer_pb2


@dataclass(frozen=True)
class Job(JobValues):
    """A training job as it was when it was fetched, and what can be done with it.

    It never changes: what does something returns the job as it is then.
    """

    connection: Connection = field(repr=False, compare=False)

    def refresh(self) -> Job:
        """The job now."""
        return self._with(self.connection.get_job(self.id))

    def watch(
        self, after: int = 0, on_lost: Callable[[CorralError], None] = ignore
    ) -> Iterator[Event]:
        """Every event behind a number, each once, as it happens, until the job's end.

        A lost connection is found again, which `on_lost` hears of.
        """
        return (read(Event, one) for one in self.connection.watch_job(self.id, after, on_lost))

    def wait(self, *, check: bool = True) -> Job:
        """The job once it has ended.

        With `check`, raises the error of a failed job, and ConflictError for a cancelled one.
        """
        for _ in self.connection.watch_job(self.id, self.last_event):
            pass
        ended = self.refresh()
        if check:
            _raise_unless_succeeded(ended)
        return ended

    def cancel(self) -> Job:
        """Ask for its end: at once when it is queued, within an optimizer step when it runs."""
        return self._with(self.connection.cancel_job(self.id))

    def pause(self) -> Job:
        """Ask it to stop with a checkpoint, and to wait."""
        return self._with(self.connection.pause_job(self.id))

    def resume(self) -> Job:
        """Let a paused job go on."""
        return self._with(self.connection.resume_job(self.id))

    def delete(self) -> None:
        """Remove it with its checkpoints; it has to have ended."""
        self.connection.delete_job(self.id)

    def _with(self, message: trainer_pb2.TrainingJob) -> Job:
        return read(Job, message, connection=self.connection)


@dataclass(frozen=True)
class AsyncJob(JobValues):
    """A training job as it was when it was fetched, and what can be done with it.

    It never changes: what does something returns the job as it is then.
    """

    connection: AsyncConnection = field(repr=False, compare=False)
    patience_seconds: float = field(repr=False, compare=False)

    async def refresh(self) -> AsyncJob:
        """The job now."""
        return self._with(await self.connection.get_job(self.id))

    async def watch(
        self, after: int = 0, on_lost: Callable[[CorralError], None] = ignore
    ) -> AsyncGenerator[Event]:
        """Every event behind a number, each once, as it happens, until the job's end.

        A lost connection is found again, which `on_lost` hears of.
        """
        patience = Patience(self.patience_seconds)
        while True:
            try:
                async for message in self.connection.watch_job(self.id, after):
                    after = message.number
                    patience.renew()
                    yield read(Event, message)
                    if message.state_change.state in END_STATES:
                        return
                # A server that shuts down may end the stream as if all was said.
                if (await self.refresh()).has_ended:
                    return
                patience.renew()
                pause = ENDED_EARLY_SECONDS
            except LOST as lost:
                pause = patience.pause_after(lost)
                if patience.losses == 1:
                    on_lost(lost)
            await asyncio.sleep(pause)

    async def wait(self, *, check: bool = True) -> AsyncJob:
        """The job once it has ended.

        With `check`, raises the error of a failed job, and ConflictError for a cancelled one.
        """
        async for _ in self.watch(self.last_event):
            pass
        ended = await self.refresh()
        if check:
            _raise_unless_succeeded(ended)
        return ended

    async def cancel(self) -> AsyncJob:
        """Ask for its end: at once when it is queued, within an optimizer step when it runs."""
        return self._with(await self.connection.cancel_job(self.id))

    async def pause(self) -> AsyncJob:
        """Ask it to stop with a checkpoint, and to wait."""
        return self._with(await self.connection.pause_job(self.id))

    async def resume(self) -> AsyncJob:
        """Let a paused job go on."""
        return self._with(await self.connection.resume_job(self.id))

    async def delete(self) -> None:
        """Remove it with its checkpoints; it has to have ended."""
        await self.connection.delete_job(self.id)

    def _with(self, message: trainer_pb2.TrainingJob) -> AsyncJob:
        return read(
            AsyncJob,
            message,
            connection=self.connection,
            patience_seconds=self.patience_seconds,
        )


def _raise_unless_succeeded(job: JobValues) -> None:
    """Raises what `wait` raises."""
    if job.state == "cancelled":
        raise ConflictError(f"Job {job.id} was cancelled.")
    if job.failure is not None:
        raise failure_error(job.id, job.failure.code, job.failure.message)
