"""RedisJobStore against a real server: the conformance tests, and what only Redis can do wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from tests.conformance.job_store import (
    LEASE,
    PATIENCE,
    ExpireLease,
    JobStoreConformance,
    all_events,
    claim,
    claimed,
    events_so_far,
    next_event,
    watching,
)
from tests.job_builders import checkpoint, measured, submission

from corral.errors import InvalidRequestError, UnavailableError
from corral.jobs.connection import RedisConnection
from corral.jobs.records import JobState, Logged, Measured
from corral.jobs.redis_store import RedisJobStore


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, decode_responses=True)
    yield client
    await client.aclose()


class TestRedisJobStore(JobStoreConformance):
    @pytest.fixture
    def expire_lease(self, client: Redis, namespace: str) -> ExpireLease:
        async def expire(job_id: str) -> None:
            await client.zadd(f"{namespace}:leases", {job_id: 1}, xx=True)

        return expire


class SendsTwice(RedisConnection):
    """Sends every script twice, as redis-py does when the first answer was lost."""

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__(url, namespace)
        self._scripts = {name: _twice(script) for name, script in self._scripts.items()}


def _twice(script: Any) -> Any:
    async def call(args: list[str | int]) -> Any:
        await script(args=args)
        return await script(args=args)

    return call


class TestRedisJobStoreWhoseCallsAreSentTwice(TestRedisJobStore):
    """A call that is sent again is applied once: the same tests pass."""

    @pytest.fixture
    async def store(self, redis_url: str, namespace: str) -> AsyncIterator[RedisJobStore]:
        store = RedisJobStore(SendsTwice(redis_url, namespace), namespace)
        yield store
        await store.close()


class LossyProxy:
    """Stands before Redis and breaks the connection in place of each script call's first answer."""

    def __init__(self, redis_url: str, socket: Path) -> None:
        self._redis_url = redis_url
        self._socket = socket
        self._seen: set[bytes] = set()
        self.lost = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_unix_server(self._serve, self._socket)
        async with server:
            yield f"unix://{self._socket}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_redis = await self._connect()
        with closing(writer), closing(to_redis):
            while request := await reader.read(2**20):
                to_redis.write(request)
                answer = await upstream.read(2**20)
                tokens = set(re.findall(rb"EVALSHA.*\r\n([0-9a-f]{24})\r\n", request, re.DOTALL))
                if tokens - self._seen and not answer.startswith(b"-NOSCRIPT"):
                    self._seen |= tokens
                    self.lost += 1
                    return
                writer.write(answer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(self._redis_url)
        if url.scheme == "unix":
            return await asyncio.open_unix_connection(url.path)
        return await asyncio.open_connection(url.hostname, url.port)


async def test_a_job_is_whole_though_every_first_answer_is_lost(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    proxy = LossyProxy(redis_url, tmp_path / "s")
    async with proxy.serving() as url:
        store = RedisJobStore.connect(url, namespace)
        await store.submit(submission())
        job = await claim(store)
        assert job.attempt == 1
        for n in range(3):
            await store.record(job.id, job.attempt, [Logged(text=f"line {n}"), measured(n)])
        await store.release(job.id, job.attempt, "again", strike=True)
        job = await claim(store)
        assert (job.attempt, job.strikes) == (2, 1)
        await store.publish(job.id, job.attempt, checkpoint(3, 2))
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        bodies = [event.body for event in await all_events(store)]
        assert [body.text for body in bodies if isinstance(body, Logged)] == [
            "line 0",
            "line 1",
            "line 2",
        ]
        assert [body for body in bodies if isinstance(body, Measured)] == [
            measured(n) for n in range(3)
        ]
        assert len(bodies) == 13
        await store.delete(job.id)
        assert proxy.lost == 10
        await store.close()


async def test_a_lease_runs_out_by_redis_clock(store: RedisJobStore) -> None:
    await store.submit(submission())
    first = await store.claim("worker-1", 0.05)
    assert first is not None
    async with asyncio.timeout(PATIENCE):
        while (again := await store.claim("worker-2", LEASE)) is None:
            # Returns when the lease has run out, not after these seconds.
            await store.wait_for_work(PATIENCE * 2)
    assert (again.id, again.attempt) == (first.id, 2)


async def test_a_claim_that_is_repeated_after_its_lease_is_a_new_claim(
    store: RedisJobStore, client: Redis, namespace: str
) -> None:
    connection = store._redis
    await store.submit(submission())
    arguments = [namespace, "the-token", "worker-1", 600_000]
    await connection._scripts["claim"](args=arguments)
    await client.zadd(f"{namespace}:leases", {"job-1": 1})
    second = await claim(store, "worker-2")
    assert second.attempt == 2
    assert await connection._scripts["claim"](args=arguments) == ["none"]


async def test_a_doorbell_does_not_ring_for_jobs_that_are_gone(
    store: RedisJobStore, client: Redis, namespace: str
) -> None:
    for n in range(5):
        await store.submit(submission(f"job-{n}"))
    assert await client.llen(f"{namespace}:doorbell") == 5
    await store.cancel("job-4")
    await claim(store)
    assert await client.llen(f"{namespace}:doorbell") == 3
    for _ in range(3):
        await claim(store)
    assert await client.llen(f"{namespace}:doorbell") == 0


async def test_a_deleted_job_leaves_nothing_in_redis(
    store: RedisJobStore, client: Redis, namespace: str
) -> None:
    await store.submit(submission(key="k"))
    job = await claim(store)
    await store.record(job.id, job.attempt, [Logged(text="x")])
    await store.publish(job.id, job.attempt, checkpoint(1))
    await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
    await store.delete(job.id)
    left = [key async for key in client.scan_iter(f"{namespace}:*")]
    assert all(key.startswith(f"{namespace}:applied:") for key in left)
    for key in left:
        assert await client.ttl(key) > 0


async def test_a_listing_looks_past_many_jobs_of_other_states(store: RedisJobStore) -> None:
    # More than one script looks at.
    await asyncio.gather(*(store.submit(submission(f"job-{n}")) for n in range(1100)))
    oldest = [(await claim(store)).id for _ in range(2)]
    for job_id in oldest:
        await store.cancel(job_id)
    page = await store.list_page(1, states=[JobState.CANCELLING])
    assert [job.id for job in page.jobs] == [oldest[1]]
    page = await store.list_page(1, page.next_token, [JobState.CANCELLING])
    assert ([job.id for job in page.jobs], page.next_token) == ([oldest[0]], "")


async def test_open_watches_leave_connections_for_the_commands(store: RedisJobStore) -> None:
    job = await claimed(store)
    watches = [store.watch(job.id, job.last_event) for _ in range(150)]
    coming = [asyncio.create_task(next_event(watch)) for watch in watches]
    await store.record(job.id, job.attempt, [Logged(text="to all")])
    assert {event.body.text for event in await asyncio.gather(*coming)} == {"to all"}
    for watch in watches:
        await watch.aclose()


async def test_two_stores_see_the_same_jobs(
    store: RedisJobStore, redis_url: str, namespace: str
) -> None:
    other = RedisJobStore.connect(redis_url, namespace)
    try:
        job = await claimed(store)
        async with watching(other, job.id, job.last_event) as events:
            coming = asyncio.create_task(next_event(events))
            await store.record(job.id, job.attempt, [Logged(text="there")])
            assert (await coming).body == Logged(text="there")
        assert len(await events_so_far(other)) == 3
    finally:
        await other.close()


async def test_a_redis_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    store = RedisJobStore.connect(f"redis://someone:secret@127.0.0.1:{unused_tcp_port}/0")
    calls = [
        store.ping(),
        store.get("job-1"),
        store.claim("w", 1),
        store.wait_for_work(1),
        next_event(store.watch("job-1")),
    ]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, UnavailableError)
        assert f"127.0.0.1:{unused_tcp_port}" in error.message
        assert "secret" not in str(error)
    await store.close()


@pytest.mark.parametrize("url", ["", "http://x", "redis://host:port", "somewhere"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="address of Redis"):
        RedisJobStore.connect(url)


async def test_more_jobs_are_counted_than_one_script_looks_at(store: RedisJobStore) -> None:
    for number in range(1001):
        await store.submit(submission(f"job-{number}"))
    await store.cancel("job-0")
    assert await store.counts() == {JobState.QUEUED: 1000, JobState.CANCELLED: 1}
