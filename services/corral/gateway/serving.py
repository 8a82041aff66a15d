"""An ASGI app on uvicorn, drained on SIGTERM as Corral's gRPC servers are.

Knows nothing of what the app does.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from corral import formatting
from corral.errors import AlreadyRunningError, UnavailableError
from corral.settings import Settings

_BACKLOG = 2048

_log = structlog.stdlib.get_logger(__name__)


async def serve(
    app: ASGIApp, settings: Settings, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, let open requests finish, return. A second signal ends them.

    `on_ready` is called with the bound port. Raises AlreadyRunningError where something else listens
    there, UnavailableError where the address can't be bound.
    """
    with _bound(settings.host, settings.gateway_port) as listener:
        port = listener.getsockname()[1]
        server = _Server(
            uvicorn.Config(
                app,
                # Corral's own logging is set up; requests are logged by corral.gateway.requests.
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.drain_seconds),
            )
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.wish_to_end, number.name)
        _log.info("serving", address=formatting.address(settings.host, port))
        if on_ready is not None:
            on_ready(port)
        await server.serve(sockets=[listener])
    _log.info("stopped")


class _Server(uvicorn.Server):
    """Ends when it is told to, and returns: uvicorn's own would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def wish_to_end(self, signal_name: str) -> None:
        """Drain; the second time, end at once."""
        _log.info("draining", signal=signal_name)
        self.force_exit = self.should_exit
        self.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except socket.gaierror:
        raise UnavailableError(
            f"{host!r} is not an address of this machine.", "Bind to 127.0.0.1 or 0.0.0.0."
        ) from None
    except PermissionError:
        raise UnavailableError(
            f"Not allowed to listen on {formatting.address(host, port)}.",
            "Choose a port above 1023.",
        ) from None
    except OSError:
        raise AlreadyRunningError(
            f"Something already listens on {formatting.address(host, port)}.",
            "Stop it (another `corral up`?), or choose another port with CORRAL_GATEWAY_PORT.",
        ) from None
