"""RedisJobStore: the truth about jobs, in one Redis (or Valkey) with `appendfsync always`.

Every change of a job is one Lua script of `scripts/`, which reads Redis' clock and checks the fence
before it writes. Keys, below a namespace:

    job:<id>                 hash: the record, see corral.jobs.encoding
    job:<id>:events          stream: entry <n>-0 is event number n; the newest 100,000 are kept
    jobs                     sorted set of all ids by rank, for listing
    queue, leases            sorted sets of ids by rank and by the lease's end
    workers                  hash: the job that each worker holds
    doorbell                 list on which idle workers block
    dataset:<id>             set of the jobs that have not ended and need it
    idempotency:<key>        id of the job that a key made
    applied:<token>          what a call has done already, for ten minutes

Knows nothing of gRPC, launchers or files.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from corral.errors import ConflictError, FencedError, JobNotFoundError
from corral.jobs import encoding
from corral.jobs.connection import LONGEST_BLOCK_SECONDS, RedisConnection
from corral.jobs.records import (
    CheckpointPublished,
    Event,
    EventBody,
    Failure,
    Job,
    JobState,
    PublishedCheckpoint,
    StateChanged,
    Submission,
)
from corral.jobs.store import Page

DEFAULT_NAMESPACE = "corral"
_EVENTS_PER_READ = 500
# Jobs that one script looks at: Redis serves nobody else meanwhile.
_JOBS_PER_SCAN = 1000
_SHORTEST_BLOCK_SECONDS = 0.01
# redis-py's types allow for bytes; these connections decode.
_Text = dict[str, str]


class RedisJobStore:
    """The JobStore protocol on Redis. Build it with `connect`; safe to share between tasks.

    A call whose answer was lost is repeated for about two seconds, and never applied twice: each
    carries a token that the script remembers. After that it raises UnavailableError, and may or
    may not have been applied; asking again is safe for everything but `record`, whose events could
    then appear twice.

    An attempt whose lease ran out may go on, and renew, as long as no other worker has claimed the
    job: it is still the newest. Once one has, each of its calls raises FencedError.

    Of a job's events the newest 100,000 are kept: beyond that the oldest go, whatever their kind,
    and a watch from the start begins with a higher number. Numbers never repeat or skip otherwise.
    """

    def __init__(self, connection: RedisConnection, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._redis = connection
        self._namespace = namespace

    @classmethod
    def connect(cls, url: str, namespace: str = DEFAULT_NAMESPACE) -> RedisJobStore:
        """A store on the Redis at `redis://…`, `rediss://…` or `unix://…`.

        Connects with the first call, not here. Raises InvalidRequestError for another address.
        """
        return cls(RedisConnection(url, namespace), namespace)

    async def close(self) -> None:
        """Close every connection; the store can't be used afterwards."""
        await self._redis.close()

    async def ping(self) -> None:
        """Raises UnavailableError when Redis does not answer."""
        with self._redis.translated_errors():
            await self._redis.commands.ping()

    # ------------------------------------------------------------ clients

    async def submit(self, submission: Submission) -> Job:
        status, found = await self._redis.call(
            "submit",
            submission.id,
            submission.idempotency_key,
            encoding.fingerprint(submission),
            submission.spec.model_dump_json(),
            submission.dataset_id,
            json.dumps(submission.metadata),
        )
        if status == "conflict":
            raise ConflictError(
                f"Another request has already made {found} with the idempotency key"
                f" {submission.idempotency_key!r} or the same id.",
                "Use a new key for a new job.",
            )
        return _job(found)

    async def get(self, job_id: str) -> Job:
        with self._redis.translated_errors():
            fields = cast(_Text, await self._redis.commands.hgetall(self._key("job", job_id)))
        if not fields:
            raise _not_found(job_id)
        return encoding.job_of(fields)

    async def list_page(self, size: int, token: str = "", states: Sequence[JobState] = ()) -> Page:
        bound = f"({encoding.rank_of(token)}" if token else "+inf"
        wanted = f",{','.join(states)}," if states else ""
        found: list[dict[str, str]] = []
        # One more than asked for, which tells whether another page follows.
        while bound and len(found) <= size:
            missing = size + 1 - len(found)
            _, bound, jobs = await self._redis.call("list", bound, missing, wanted, _JOBS_PER_SCAN)
            found.extend(encoding.pairs(job) for job in jobs)
        more = len(found) > size
        return Page(
            jobs=tuple(encoding.job_of(fields) for fields in found[:size]),
            next_token=encoding.token_before(found[size - 1]["rank"]) if more else "",
        )

    async def counts(self) -> dict[JobState, int]:
        # Counted instead of kept: no figure that a crash could leave wrong. A job changes its state
        # but never its rank, so each is counted once however many scripts it takes.
        bound = "+inf"
        counts: Counter[JobState] = Counter()
        while bound:
            _, bound, found = await self._redis.call("count", bound, _JOBS_PER_SCAN)
            counts.update({JobState(state): int(n) for state, n in encoding.pairs(found).items()})
        return dict(counts)

    async def jobs_using(self, dataset_id: str) -> list[str]:
        with self._redis.translated_errors():
            members = await self._redis.commands.smembers(self._key("dataset", dataset_id))
        return sorted(cast(set[str], members))

    async def cancel(self, job_id: str) -> Job:
        status, *rest = await self._redis.call("cancel", job_id)
        if status == "not_found":
            raise _not_found(job_id)
        if status == "conflict":
            raise ConflictError(f"{job_id} can't be cancelled: it has ended as {rest[0]}.")
        return _job(rest[0])

    async def pause(self, job_id: str) -> Job:
        status, *rest = await self._redis.call("pause", job_id)
        if status == "not_found":
            raise _not_found(job_id)
        if status == "conflict":
            raise ConflictError(f"{job_id} can't be paused: it is {rest[0]}.")
        return _job(rest[0])

    async def resume(self, job_id: str) -> Job:
        status, *rest = await self._redis.call("resume", job_id)
        if status == "not_found":
            raise _not_found(job_id)
        if status == "conflict":
            raise ConflictError(f"{job_id} can't be resumed: it is {rest[0]}.")
        return _job(rest[0])

    async def delete(self, job_id: str) -> None:
        status, *rest = await self._redis.call("delete", job_id)
        if status == "not_found":
            raise _not_found(job_id)
        if status == "conflict":
            raise ConflictError(f"{job_id} is {rest[0]}.", "Cancel it first, or wait for its end.")

    async def watch(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        while not await self._nothing_follows(job_id, after):
            # Python 3.11's asyncio.wait_for, through which redis-py sends, may swallow a
            # cancellation; the watch would then wait on for a client that has left.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError
            for event in await self._events(job_id, after):
                yield event
                after = event.number
                if isinstance(event.body, StateChanged) and event.body.state.is_end:
                    return

    # ------------------------------------------------------------ workers

    async def claim(self, worker: str, lease_seconds: float) -> Job | None:
        status, *rest = await self._redis.call("claim", worker, _milliseconds(lease_seconds))
        return _job(rest[0]) if status == "ok" else None

    async def wait_for_work(self, seconds: float) -> None:
        with self._redis.translated_errors():
            longest = min(seconds, LONGEST_BLOCK_SECONDS, await self._next_lapse())
            # To Redis, 0 means for ever.
            timeout = max(longest, _SHORTEST_BLOCK_SECONDS)
            await self._redis.waiting.blpop([self._key("doorbell")], timeout=timeout)

    async def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Job:
        return await self._fenced("renew", job_id, attempt, _milliseconds(lease_seconds))

    async def started(self, job_id: str, attempt: int, handle: str) -> Job:
        return await self._fenced("started", job_id, attempt, handle)

    async def record(self, job_id: str, attempt: int, bodies: Sequence[EventBody]) -> Job:
        assert not any(isinstance(body, StateChanged) for body in bodies)
        progress = encoding.newest_progress(bodies)
        events = [text for body in bodies for text in (body.kind, body.model_dump_json())]
        newest = progress.model_dump_json() if progress else ""
        spending = encoding.newest_spending(bodies)
        spent = spending.model_dump_json() if spending else ""
        return await self._fenced("record", job_id, attempt, newest, spent, *events)

    async def publish(self, job_id: str, attempt: int, checkpoint: PublishedCheckpoint) -> Job:
        return await self._fenced(
            "publish",
            job_id,
            attempt,
            checkpoint.step,
            checkpoint.model_dump_json(),
            CheckpointPublished(checkpoint=checkpoint).model_dump_json(),
        )

    async def unpublish(self, job_id: str, attempt: int, steps: Sequence[int]) -> Job:
        return await self._fenced("unpublish", job_id, attempt, *steps)

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
        reason = failure.message if failure else reason
        why = failure.model_dump_json() if failure else ""
        return await self._fenced("finish", job_id, attempt, state, reason, why)

    async def release(self, job_id: str, attempt: int, reason: str, strike: bool = False) -> Job:
        return await self._fenced("release", job_id, attempt, reason, int(strike))

    # ------------------------------------------------------------ inside

    def _key(self, *parts: str) -> str:
        return ":".join((self._namespace, *parts))

    async def _fenced(self, script: str, job_id: str, attempt: int, *arguments: str | int) -> Job:
        status, *rest = await self._redis.call(script, job_id, attempt, *arguments)
        if status == "fenced":
            newest, worker = rest
            holder = f"attempt {newest} of {worker} does" if worker else "nobody does"
            raise FencedError(f"Attempt {attempt} no longer holds {job_id}; {holder}.")
        return _job(rest[0])

    async def _nothing_follows(self, job_id: str, after: int) -> bool:
        """Whether the job has ended with an event that was seen. Raises JobNotFoundError."""
        with self._redis.translated_errors():
            found = await self._redis.commands.hmget(
                self._key("job", job_id), ["state", "last_event"]
            )
        state, last = cast(list[str | None], found)
        if state is None or last is None:
            raise _not_found(job_id)
        return JobState(state).is_end and int(last) <= after

    async def _events(self, job_id: str, after: int) -> list[Event]:
        """The next events; none when nothing happens for a while."""
        key = self._key("job", job_id, "events")
        with self._redis.translated_errors():
            streams: Any = await self._redis.waiting.xread(
                {key: f"{after}-0"}, _EVENTS_PER_READ, block=_milliseconds(LONGEST_BLOCK_SECONDS)
            )
        return [encoding.event_of(*entry) for _, entries in streams or () for entry in entries]

    async def _next_lapse(self) -> float:
        """Seconds until the first lease runs out, if nobody renews it."""
        async with self._redis.commands.pipeline(transaction=False) as pipe:
            pipe.zrange(self._key("leases"), 0, 0, withscores=True)
            pipe.time()
            first, (seconds, microseconds) = await pipe.execute()
        if not first:
            return LONGEST_BLOCK_SECONDS
        end = float(first[0][1]) / 1000
        return end - float(seconds) - float(microseconds) / 1e6


def _job(flat: list[str]) -> Job:
    return encoding.job_of(encoding.pairs(flat))


def _not_found(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"There is no job {job_id!r:.80}.", "corral jobs list shows them all.")


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
