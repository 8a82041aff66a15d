"""`python -m corral.gateway`: the HTTP gateway, set up from the environment.

SIGTERM or SIGINT lets open requests finish, for CORRAL_DRAIN_SECONDS at most; a second one ends them.
"""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from corral.client import AsyncConnection
from corral.entry import run_service
from corral.gateway.app import create_app, surrounded
from corral.gateway.console import mount_console
from corral.gateway.serving import serve
from corral.rpc.metrics import metrics_endpoint
from corral.settings import Settings


async def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises as corral.gateway.serving.serve does."""
    registry = CollectorRegistry()
    async with AsyncConnection(settings.server, settings.inference_address) as client:
        app = create_app(client, settings, registry)
        mount_console(app, lambda key: client)
        with metrics_endpoint(registry, settings):
            await serve(surrounded(app, settings, registry), settings)


if __name__ == "__main__":
    sys.exit(run_service("gateway", run))
