"""`python -m corral.trainer`: the gRPC trainer service, set up from the environment."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from corral.entry import run_service
from corral.jobs.redis_store import RedisJobStore
from corral.rpc.metrics import CallMetrics, metrics_endpoint
from corral.rpc.serving import join_address, serve
from corral.settings import Settings
from corral.trainer.metrics import job_collector
from corral.trainer.service import TrainerService, registration
from corral.volume import Volume


async def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises as corral.rpc.serving.serve does."""
    store = RedisJobStore.connect(settings.redis_url)
    try:
        service = TrainerService(store, Volume(settings.data.expanduser()), settings)
        await service.tidy()
        registry = CollectorRegistry()
        registry.register(job_collector(store))
        with metrics_endpoint(registry, settings):
            await serve(
                registration(service),
                address=join_address(settings.host, settings.trainer_port),
                settings=settings,
                interceptors=[CallMetrics(registry)],
                on_drain=service.end_watches,
            )
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(run_service("trainer", run))
