"""`python -m corral.trainer`: the gRPC trainer service, set up from the environment."""

from __future__ import annotations

import asyncio
import sys

from prometheus_client import CollectorRegistry

from corral.errors import CorralError
from corral.jobs.redis_store import RedisJobStore
from corral.logging import configure_logging
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
            )
    finally:
        await store.close()


def main() -> int:
    """Returns the exit code."""
    settings = Settings()
    configure_logging(settings.log_level)
    try:
        asyncio.run(run(settings))
    except CorralError as error:
        sys.stderr.write(f"corral trainer: {error}\n")
        return error.kind.value.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
