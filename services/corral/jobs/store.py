"""JobStore: what the services may do to jobs, whatever keeps them.

`corral.jobs.redis_store` keeps them in Redis. Tests also run this protocol against a plain
in-memory model. Knows nothing of gRPC, launchers or files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from corral.jobs.records import Event as Event  # re-exported: part of the protocol
from corral.jobs.records import (
    EventBody,
    Failure,
    Job,
    JobState,
    PublishedCheckpoint,
    Submission,
)


@dataclass(frozen=True)
class Page:
    """Some jobs, and the token of the next page or an empty string."""

    jobs: tuple[Job, ...]
    next_token: str


class JobStore(Protocol):
    """The truth about jobs.

    Every call that takes `attempt` is fenced: it raises FencedError, and changes nothing, unless
    that attempt holds the job's lease. All raise UnavailableError when the store does not answer.
    """

    # ------------------------------------------------------------ clients

    async def submit(self, submission: Submission) -> Job:
        """Queue a job, durably before this returns.

        The same idempotency key with the same data set, spec and metadata gives the job it made before;
        with others it raises ConflictError.
        """

    async def get(self, job_id: str) -> Job:
        """The job now. Raises JobNotFoundError."""

    async def list_page(self, size: int, token: str = "", states: Sequence[JobState] = ()) -> Page:
        """Jobs newest first. A token stays good while jobs come and go: no job is listed twice.

        Raises InvalidRequestError for a token that it did not give.
        """

    async def counts(self) -> dict[JobState, int]:
        """How many jobs there are in each state; a state without any may be missing."""

    async def jobs_using(self, dataset_id: str) -> list[str]:
        """Ids of the jobs with this data set that have not ended."""

    async def cancel(self, job_id: str) -> Job:
        """A queued job is CANCELLED at once, a running one CANCELLING until its worker ends it.

        Cancelling twice changes nothing. Raises JobNotFoundError; ConflictError on an ended job.
        """

    async def pause(self, job_id: str) -> Job:
        """A queued job is PAUSED at once, a running one PAUSING until its worker has stopped it with a
        checkpoint and released it.

        Pausing twice changes nothing. Raises JobNotFoundError; ConflictError on a job that is
        cancelled or has ended.
        """

    async def resume(self, job_id: str) -> Job:
        """A paused job is queued again in its old place; one that is PAUSING is as soon as it has
        stopped. A job that goes on anyway stays as it is.

        Raises JobNotFoundError; ConflictError on a job that is cancelled or has ended.
        """

    async def delete(self, job_id: str) -> None:
        """Forget an ended job. Raises JobNotFoundError; ConflictError before its end."""

    def watch(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Events with a number above `after`, then each new one as it happens.

        Ends after the event of an end state, also when that was already seen. Raises
        JobNotFoundError, also when the job is deleted meanwhile.
        """

    # ------------------------------------------------------------ workers

    async def claim(self, worker: str, lease_seconds: float) -> Job | None:
        """Take the next job: the one that this worker still holds, since it must have died with it;
        else one whose lease ran out; else the oldest queued; None if none.

        Atomic: raises the attempt, moves the job to STARTING (CANCELLING and PAUSING stay), starts the
        lease. The job still carries the last attempt's handle, so that its run can be ended.
        """

    async def wait_for_work(self, seconds: float) -> None:
        """Return when a job may be there to claim, after `seconds` at the latest."""

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Job:
        """Extend the lease; returns the job, in which a wish to cancel or to pause shows."""

    async def started(self, job_id: str, attempt: int, handle: str) -> Job:
        """Record the launcher's handle; called before anything depends on it."""

    async def record(self, job_id: str, attempt: int, bodies: Sequence[EventBody]) -> Job:
        """Append events in order, atomically. A Measured also becomes the job's progress and moves
        STARTING to RUNNING (with an event of its own before it); a StateChanged is refused with an
        assertion: states change through the other calls.
        """

    async def publish(self, job_id: str, attempt: int, checkpoint: PublishedCheckpoint) -> Job:
        """Make a checkpoint visible, once: publishing the same step again changes nothing. Resets the
        strikes.
        """

    async def unpublish(self, job_id: str, attempt: int, steps: Sequence[int]) -> Job:
        """Hide checkpoints, before their folders are removed."""

    async def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        failure: Failure | None = None,
        reason: str = "",
    ) -> Job:
        """Move to an end state and give the lease back. A failure goes with FAILED, and only there;
        its message is then the reason.
        """

    async def release(self, job_id: str, attempt: int, reason: str, strike: bool = False) -> Job:
        """Give the job back to the front of the queue, e.g. when the worker shuts down or the run
        died. With `strike`, counts an attempt that got nowhere. A CANCELLING job is CANCELLED, a
        PAUSING one PAUSED.
        """
