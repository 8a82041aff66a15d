"""How a service's process begins and ends: settings from the environment, logging, an exit code.

Knows nothing of what the service does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from corral.errors import CorralError
from corral.logging import configure_logging
from corral.settings import Settings, load_settings


def run_service(name: str, run: Callable[[Settings], Awaitable[None]]) -> int:
    """Run a service until it ends by itself; returns the exit code.

    An error that a user can mend is one line on stderr, behind the service's name.
    """

    async def serve(settings: Settings) -> None:
        await run(settings)

    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        asyncio.run(serve(settings))
    except CorralError as error:
        sys.stderr.write(f"corral {name}: {error}\n")
        return error.kind.value.exit_code
    return 0
