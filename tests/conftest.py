"""Fixtures that every room's tests may use: a real Redis-compatible server, and a store on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from corral.jobs.embedded import EmbeddedRedis
from corral.jobs.redis_store import RedisJobStore

pytest.register_assert_rewrite("tests.conformance")

READY_SECONDS = 20


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """REDIS_URL's server, or an embedded one of this test session's own (of each xdist worker)."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)
    try:
        asyncio.run(server.wait_ready(READY_SECONDS))
        yield server.url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def namespace() -> str:
    """A prefix of keys that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[RedisJobStore]:
    """An empty job store; what the test leaves in Redis goes with it."""
    store = RedisJobStore.connect(redis_url, namespace)
    yield store
    await store.close()
    client = Redis.from_url(redis_url)
    if left := [key async for key in client.scan_iter(f"{namespace}:*", count=1000)]:
        await client.unlink(*left)
    await client.aclose()
