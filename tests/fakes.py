"""Plain stand-ins for what other rooms need. Each shares a conformance test with the real thing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.errors import ConflictError, FencedError, InvalidRequestError, JobNotFoundError
from corral.jobs.records import (
    CheckpointPublished,
    Event,
    EventBody,
    Failure,
    Job,
    JobState,
    Measured,
    PublishedCheckpoint,
    Spending,
    Spent,
    StateChanged,
    Submission,
)
from corral.jobs.store import Page


@dataclass
class _Entry:
    job: Job
    rank: int
    submission: Submission
    events: list[Event] = field(default_factory=list)
    # When the lease runs out; None while nobody holds it.
    lease_end: float | None = None


class MemoryJobStore:
    """A JobStore in a dictionary. `now` is its clock, in seconds, and only moves when it is set."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self._entries: dict[str, _Entry] = {}
        self._ranks = 0
        # Set, and replaced, whenever something happens.
        self._happened = asyncio.Event()

    def expire_lease(self, job_id: str) -> None:
        """Let a job's lease run out now, as if its worker had been silent for long."""
        self._entries[job_id].lease_end = self.now

    def events(self, job_id: str) -> list[EventBody]:
        """What has happened to a job so far."""
        return [event.body for event in self._entries[job_id].events]

    # ------------------------------------------------------------ clients

    async def submit(self, submission: Submission) -> Job:
        for entry in self._entries.values():
            key = entry.submission.idempotency_key
            if entry.job.id == submission.id or (key and key == submission.idempotency_key):
                return self._same_request(entry, submission)
        self._ranks += 1
        job = Job(
            id=submission.id,
            state=JobState.QUEUED,
            spec=submission.spec,
            dataset_id=submission.dataset_id,
            created_at=self.now,
            metadata=submission.metadata,
        )
        entry = self._entries[submission.id] = _Entry(job, self._ranks, submission)
        return self._move(entry, JobState.QUEUED, "submitted")

    async def get(self, job_id: str) -> Job:
        return self._entry(job_id).job

    async def list_page(self, size: int, token: str = "", states: Sequence[JobState] = ()) -> Page:
        if token and not token.startswith("below-"):
            raise InvalidRequestError(f"{token!r} is not a page token.")
        below = int(token.removeprefix("below-")) if token else self._ranks + 1
        found = sorted(
            (
                entry
                for entry in self._entries.values()
                if entry.rank < below and (not states or entry.job.state in states)
            ),
            key=lambda entry: -entry.rank,
        )
        page = found[:size]
        next_token = f"below-{page[-1].rank}" if len(found) > size else ""
        return Page(tuple(entry.job for entry in page), next_token)

    async def counts(self) -> dict[JobState, int]:
        return Counter(entry.job.state for entry in self._entries.values())

    async def jobs_using(self, dataset_id: str) -> list[str]:
        jobs = [entry.job for entry in self._entries.values()]
        return sorted(
            job.id for job in jobs if job.dataset_id == dataset_id and not job.state.is_end
        )

    async def cancel(self, job_id: str) -> Job:
        entry = self._entry(job_id)
        state = entry.job.state
        if state in (JobState.CANCELLING, JobState.CANCELLED):
            return entry.job
        if state.is_end:
            raise ConflictError(f"{job_id} has ended as {state}.")
        if state in (JobState.QUEUED, JobState.PAUSED):
            return self._end(entry, JobState.CANCELLED)
        return self._move(entry, JobState.CANCELLING, "asked to cancel")

    async def pause(self, job_id: str) -> Job:
        entry = self._entry(job_id)
        state = entry.job.state
        if state in (JobState.PAUSING, JobState.PAUSED):
            return entry.job
        if state is JobState.QUEUED:
            return self._move(entry, JobState.PAUSED, "paused while it waited in the queue")
        if state in (JobState.STARTING, JobState.RUNNING):
            return self._move(entry, JobState.PAUSING, "asked to pause")
        raise ConflictError(f"{job_id} is {state}.")

    async def resume(self, job_id: str) -> Job:
        entry = self._entry(job_id)
        state = entry.job.state
        if state is JobState.PAUSED:
            return self._move(entry, JobState.QUEUED, "resumed")
        if state is JobState.PAUSING:
            return self._move(entry, JobState.STARTING, "resumed before it had stopped")
        if state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING):
            return entry.job
        raise ConflictError(f"{job_id} is {state}.")

    async def delete(self, job_id: str) -> None:
        state = self._entry(job_id).job.state
        if not state.is_end:
            raise ConflictError(f"{job_id} is {state}.")
        del self._entries[job_id]
        self._ring()

    async def watch(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        while True:
            happened = self._happened
            entry = self._entry(job_id)
            for event in entry.events[after:]:
                yield event
                after = event.number
            if entry.job.state.is_end and entry.job.last_event <= after:
                return
            await happened.wait()

    # ------------------------------------------------------------ workers

    async def claim(self, worker: str, lease_seconds: float) -> Job | None:
        by_rank = sorted(self._entries.values(), key=lambda entry: entry.rank)
        lapsed = [e for e in by_rank if e.lease_end is not None and e.lease_end <= self.now]
        queued = [e for e in by_rank if e.job.state is JobState.QUEUED]
        held = [e for e in by_rank if e.lease_end is not None and e.job.worker == worker]
        entry = next(iter([*held, *lapsed, *queued]), None)
        if entry is None:
            return None
        entry.lease_end = self.now + lease_seconds
        self._update(
            entry,
            attempt=entry.job.attempt + 1,
            worker=worker,
            started_at=entry.job.started_at or self.now,
        )
        if entry.job.state not in (JobState.CANCELLING, JobState.PAUSING):
            self._move(entry, JobState.STARTING, f"claimed by {worker}")
        return entry.job

    async def wait_for_work(self, seconds: float) -> None:
        happened = self._happened
        if any(entry.job.state is JobState.QUEUED for entry in self._entries.values()):
            return
        try:
            async with asyncio.timeout(seconds):
                await happened.wait()
        except TimeoutError:
            return

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Job:
        entry = self._held(job_id, attempt)
        entry.lease_end = self.now + lease_seconds
        return entry.job

    async def started(self, job_id: str, attempt: int, handle: str) -> Job:
        return self._update(self._held(job_id, attempt), handle=handle)

    async def record(self, job_id: str, attempt: int, bodies: Sequence[EventBody]) -> Job:
        assert not any(isinstance(body, StateChanged) for body in bodies)
        entry = self._held(job_id, attempt)
        for body in bodies:
            if isinstance(body, Measured):
                if entry.job.state is JobState.STARTING:
                    self._move(entry, JobState.RUNNING, "training")
                self._update(entry, progress=body.progress)
            if isinstance(body, Spent):
                self._update(entry, spending=Spending(**body.model_dump()))
            self._append(entry, body)
        return entry.job

    async def publish(self, job_id: str, attempt: int, checkpoint: PublishedCheckpoint) -> Job:
        entry = self._held(job_id, attempt)
        known = {one.step: one for one in entry.job.checkpoints}
        if checkpoint.step in known:
            return entry.job
        known[checkpoint.step] = checkpoint
        kept = tuple(known[step] for step in sorted(known))
        self._update(entry, checkpoints=kept, strikes=0)
        return self._append(entry, CheckpointPublished(checkpoint=checkpoint))

    async def unpublish(self, job_id: str, attempt: int, steps: Sequence[int]) -> Job:
        entry = self._held(job_id, attempt)
        kept = tuple(one for one in entry.job.checkpoints if one.step not in steps)
        return self._update(entry, checkpoints=kept)

    async def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        failure: Failure | None = None,
        reason: str = "",
    ) -> Job:
        assert state.is_end
        assert (failure is not None) == (state is JobState.FAILED)
        return self._end(self._held(job_id, attempt), state, failure, reason)

    async def release(self, job_id: str, attempt: int, reason: str, strike: bool = False) -> Job:
        entry = self._held(job_id, attempt)
        self._update(entry, strikes=entry.job.strikes + strike)
        if entry.job.state is JobState.CANCELLING:
            return self._end(entry, JobState.CANCELLED)
        entry.lease_end = None
        self._update(entry, worker="")
        is_pausing = entry.job.state is JobState.PAUSING
        return self._move(entry, JobState.PAUSED if is_pausing else JobState.QUEUED, reason)

    # ------------------------------------------------------------ inside

    def _entry(self, job_id: str) -> _Entry:
        if job_id not in self._entries:
            raise JobNotFoundError(f"There is no job {job_id!r}.")
        return self._entries[job_id]

    def _same_request(self, entry: _Entry, submission: Submission) -> Job:
        before = entry.submission
        asked = (submission.spec, submission.dataset_id, submission.metadata)
        if (before.spec, before.dataset_id, before.metadata) != asked:
            raise ConflictError(f"{entry.job.id} was made by another request.")
        return entry.job

    def _held(self, job_id: str, attempt: int) -> _Entry:
        entry = self._entries.get(job_id)
        if entry is None or entry.lease_end is None or entry.job.attempt != attempt:
            raise FencedError(f"Attempt {attempt} no longer holds {job_id}.")
        return entry

    def _update(self, entry: _Entry, **fields: Any) -> Job:
        entry.job = entry.job.model_copy(update=fields)
        return entry.job

    def _append(self, entry: _Entry, body: EventBody) -> Job:
        number = entry.job.last_event + 1
        event = Event(number=number, time=self.now, attempt=entry.job.attempt, body=body)
        entry.events.append(event)
        self._ring()
        return self._update(entry, last_event=number)

    def _move(
        self, entry: _Entry, state: JobState, reason: str = "", failure: Failure | None = None
    ) -> Job:
        self._update(entry, state=state)
        return self._append(entry, StateChanged(state=state, reason=reason, failure=failure))

    def _end(
        self, entry: _Entry, state: JobState, failure: Failure | None = None, reason: str = ""
    ) -> Job:
        entry.lease_end = None
        self._update(entry, finished_at=self.now, failure=failure, worker="")
        return self._move(entry, state, failure.message if failure else reason, failure)

    def _ring(self) -> None:
        self._happened.set()
        self._happened = asyncio.Event()
