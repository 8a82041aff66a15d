"""`python -m corral.trainer`: the gRPC trainer service, set up from the environment."""

from __future__ import annotations

import asyncio
import sys

from corral.errors import CorralError
from corral.jobs.redis_store import RedisJobStore
from corral.logging import configure_logging
from corral.rpc.serving import join_address, serve
from corral.settings import Settings
from corral.trainer.service import TrainerService, registration
from corral.volume import Volume


async def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises as corral.rpc.serving.serve does."""
    store = RedisJobStore.connect(settings.redis_url)
    try:
        service = TrainerService(store, Volume(settings.data.expanduser()), settings)
        await service.tidy()
        address = join_address(settings.host, settings.trainer_port)
        await serve(registration(service), address=address, settings=settings)
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
