"""The trainer's figures: how many jobs there are in each state, QUEUED being the queue's length.

Read from the job store when Prometheus asks; each trainer of a deployment tells the same. Knows
nothing of calls, which corral.rpc.metrics measures.
"""

from __future__ import annotations

import asyncio

from prometheus_client.core import GaugeMetricFamily

from corral.jobs.records import JobState
from corral.jobs.store import JobStore
from corral.rpc.metrics import LoopCollector


def job_collector(store: JobStore) -> LoopCollector:
    """A collector for the running event loop's registry."""

    async def read() -> list[GaugeMetricFamily]:
        jobs, counts = _jobs(), await store.counts()
        # Every state, so that a graph shows 0 instead of a gap.
        for state in JobState:
            jobs.add_metric([state], counts.get(state, 0))
        return [jobs]

    return LoopCollector(asyncio.get_running_loop(), [_jobs()], read)


def _jobs() -> GaugeMetricFamily:
    return GaugeMetricFamily("corral_jobs", "Jobs in each state.", labels=["state"])
