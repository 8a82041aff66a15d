"""The embedded server itself: what it has answered for survives kill -9."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.conformance.job_store import LEASE, all_events, claim, events_so_far, watching
from tests.job_builders import checkpoint, measured, submission

from corral.errors import UnavailableError
from corral.jobs.embedded import EmbeddedRedis
from corral.jobs.records import JobState, Logged
from corral.jobs.redis_store import RedisJobStore

READY_SECONDS = 20


def start(server: EmbeddedRedis) -> subprocess.Popen[bytes]:
    return subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)


@asynccontextmanager
async def running(server: EmbeddedRedis) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = start(server)
    try:
        await server.wait_ready(READY_SECONDS)
        yield process
    finally:
        process.kill()
        process.wait()


async def test_acknowledged_jobs_survive_a_kill_of_the_server(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    acknowledged: list[str] = []

    async def submit_for_ever(store: RedisJobStore, client: int) -> None:
        n = 0
        while True:
            job = await store.submit(submission(f"job-{client}-{n}"))
            acknowledged.append(job.id)
            n += 1

    async with running(server) as process:
        store = RedisJobStore.connect(server.url)
        clients = [asyncio.create_task(submit_for_ever(store, n)) for n in range(8)]
        while len(acknowledged) < 300:
            done, _ = await asyncio.wait(clients, timeout=0.01)
            assert not done, done
        process.kill()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await store.close()

    async with running(server):
        store = RedisJobStore.connect(server.url)
        found: set[str] = set()
        page = await store.list_page(100)
        found.update(job.id for job in page.jobs)
        while page.next_token:
            page = await store.list_page(100, page.next_token)
            found.update(job.id for job in page.jobs)
        assert set(acknowledged) <= found
        assert (await claim(store)).attempt == 1
        await store.close()


async def test_everything_about_a_job_survives_and_the_store_goes_on(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    async with running(server):
        store = RedisJobStore.connect(server.url)
        await store.submit(submission(key="k"))
        job = await claim(store)
        await store.started(job.id, job.attempt, "handle")
        await store.record(job.id, job.attempt, [measured(1), Logged(text="x")])
        before = await store.publish(job.id, job.attempt, checkpoint(1))
        events = await events_so_far(store)

    # The same store, whose connections are broken now.
    async with running(server):
        assert await store.get(job.id) == before
        assert await events_so_far(store) == events
        assert await store.submit(submission("job-2", key="k")) == before
        await store.renew(job.id, job.attempt, LEASE)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        assert [event.number for event in await all_events(store)] == [1, 2, 3, 4, 5, 6, 7]
        await store.close()


async def test_a_watch_and_a_worker_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    async with running(server):
        store = RedisJobStore.connect(server.url)
        await store.submit(submission())
        job = await claim(store)
        watch = asyncio.create_task(all_events(store))
        async with watching(store) as events:
            await anext(events)
    async with running(server):
        await store.record(job.id, job.attempt, [Logged(text="back")])
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        assert [event.number for event in await watch] == [1, 2, 3, 4]
        await store.close()


async def test_a_server_that_does_not_start_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="did not answer"):
        await EmbeddedRedis(tmp_path).wait_ready(0.1)
