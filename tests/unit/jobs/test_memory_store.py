"""The fake job store keeps its promises; other rooms' tests lean on it."""

from __future__ import annotations

import pytest
from tests.conformance.job_store import ExpireLease, JobStoreConformance
from tests.fakes import MemoryJobStore
from tests.job_builders import submission


class TestMemoryJobStore(JobStoreConformance):
    @pytest.fixture
    def store(self) -> MemoryJobStore:
        return MemoryJobStore()

    @pytest.fixture
    def expire_lease(self, store: MemoryJobStore) -> ExpireLease:
        async def expire(job_id: str) -> None:
            store.expire_lease(job_id)

        return expire

    async def test_a_lease_runs_out_by_its_clock(self, store: MemoryJobStore) -> None:
        await store.submit(submission())
        await store.claim("worker-1", 10)
        store.now += 9
        assert await store.claim("worker-2", 10) is None
        store.now += 1
        again = await store.claim("worker-2", 10)
        assert again is not None
        assert again.attempt == 2
