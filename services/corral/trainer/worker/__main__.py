"""`python -m corral.trainer.worker`: one worker, set up from the environment.

SIGTERM or SIGINT lets the run at hand save a checkpoint, gives its job back to the queue, exits 0.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys

from prometheus_client import CollectorRegistry

from corral.entry import run_service
from corral.jobs.redis_store import RedisJobStore
from corral.launchers.registry import launcher_for
from corral.rpc.metrics import metrics_endpoint
from corral.settings import Settings
from corral.trainer.worker.loop import Worker
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.run import Tools
from corral.volume import Volume


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    shutdown = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, shutdown.set)
    store = RedisJobStore.connect(settings.redis_url)
    registry = CollectorRegistry()
    launcher = launcher_for(settings)
    try:
        tools = Tools(
            store=store,
            launcher=launcher,
            volume=Volume(settings.data.expanduser()),
            lease_seconds=settings.lease_seconds,
            stop_seconds=settings.stop_seconds,
            metrics=WorkerMetrics(registry),
        )
        with metrics_endpoint(registry, settings):
            name = settings.worker_name or unique_name()
            await Worker(tools, name, settings.worker_jobs).run(shutdown)
    finally:
        await launcher.close()
        await store.close()


def unique_name() -> str:
    """A name that no other worker has, and that says where to find this one."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


if __name__ == "__main__":
    sys.exit(run_service("worker", run))
