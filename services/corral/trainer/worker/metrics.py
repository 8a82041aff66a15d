"""A worker's figures: runs in progress, and attempts by how they ended.

Knows nothing of how an attempt is carried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge

from corral.trainer.worker.verdict import Finish, Release

# What became of an attempt that neither finished nor gave its job back.
LOST = "lost"


class WorkerMetrics:
    """Counted into a registry. An attempt's `outcome` is `succeeded`, `failed` or `cancelled` as its
    job, `released` or `struck` (it got nowhere) where the job is queued again, or `lost` to another
    worker.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Gauge("corral_worker_runs", "Attempts in progress.", registry=registry)
        self._attempts = Counter(
            "corral_worker_attempts",
            "Attempts that ended, by what became of them.",
            ["outcome"],
            registry=registry,
        )

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one attempt, which `decided` is called in unless it is lost."""
        with self._runs.track_inprogress():
            try:
                yield
            except Exception:
                self._attempts.labels(LOST).inc()
                raise

    def decided(self, decision: Finish | Release) -> None:
        """Count what becomes of an attempt's job, once that is written."""
        if isinstance(decision, Finish):
            outcome = decision.state.lower()
        else:
            outcome = "struck" if decision.strike else "released"
        self._attempts.labels(outcome).inc()
