"""A gRPC server as every Corral service runs it: errors mapped, health told, drained on SIGTERM.

Knows nothing of what is served: a service registers itself and returns its names.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from corral import formatting
from corral.errors import AlreadyRunningError, UnavailableError
from corral.rpc.mapping import ErrorMapping
from corral.settings import Settings

# Adds its servicers to a server and returns their full names, e.g. "corral.v1.Trainer".
Register = Callable[[grpc.aio.Server], Sequence[str]]

MAX_RECEIVE_BYTES = 4 * 1024 * 1024
UNIX_PREFIX = "unix:"

_OPTIONS: tuple[tuple[str, int], ...] = (
    # With it, a second server on the same port would take every other call, silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # Ping idle clients so that the streams of one that vanished end.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Allow our own clients' pings (every 30 s) without "too many pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_log = structlog.stdlib.get_logger(__name__)


def together(*registers: Register) -> Register:
    """Several services on one server."""

    def register(server: grpc.aio.Server) -> tuple[str, ...]:
        return tuple(name for one in registers for name in one(server))

    return register


class GrpcServer:
    """One server. `start` binds and serves, `drain` lets open calls finish.

    `address` is `host:port`, with port 0 for any free one, or `unix:/path`. `interceptors` see each
    call before its errors are mapped, and its end after that; the first is the outermost.
    """

    def __init__(
        self,
        register: Register,
        *,
        address: str,
        settings: Settings,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._address = address
        self._drain_seconds = settings.drain_seconds
        self._server = grpc.aio.server(
            interceptors=[*interceptors, ErrorMapping()], options=_OPTIONS
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = tuple(register(self._server))
        if settings.reflection:
            offered = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(offered, self._server)

    async def start(self) -> str:
        """Serve; returns the address with the port that was bound.

        Raises AlreadyRunningError where something else listens there, UnavailableError where the
        address can't be bound at all.
        """
        bound = _bind(self._server, self._address)
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def drain(self, seconds: float | None = None) -> None:
        """Tell health NOT_SERVING, refuse new calls, give open ones so long; by default as the
        settings say. Called again with 0 meanwhile, it ends them at once.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds if seconds is None else seconds)


async def serve(
    register: Register,
    *,
    address: str,
    settings: Settings,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    on_ready: Callable[[str], None] | None = None,
    on_drain: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, drain, return. A second signal ends open calls at once.

    `on_ready` is called with the bound address once calls are answered, `on_drain` when no more
    are taken: streams without an end of their own should end then. Raises as `GrpcServer.start`
    does.
    """
    server = GrpcServer(register, address=address, settings=settings, interceptors=interceptors)
    signals: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)
    bound = await server.start()
    _log.info("serving", address=bound)
    if on_ready is not None:
        on_ready(bound)
    _log.info("draining", signal=await signals.get())
    if on_drain is not None:
        on_drain()
    draining = asyncio.create_task(server.drain())
    impatient = asyncio.create_task(signals.get())
    await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        await server.drain(0)
    impatient.cancel()
    await draining
    _log.info("stopped")


def join_address(host: str, port: int) -> str:
    """`host:port` as gRPC reads it, an IPv6 host in brackets."""
    return formatting.address(host, port)


def _bind(server: grpc.aio.Server, address: str) -> str:
    if address.startswith(UNIX_PREFIX):
        _refuse_live_socket(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise _bind_error(address) from None
    if address.startswith(UNIX_PREFIX):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _refuse_live_socket(address: str) -> None:
    """Ask first: gRPC unlinks a socket file that is in its way, a live server's too."""
    path = address.removeprefix(UNIX_PREFIX)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise _taken(address)


def _bind_error(address: str) -> AlreadyRunningError | UnavailableError:
    """Why the bind failed: gRPC's exception does not say."""
    if address.startswith(UNIX_PREFIX):
        folder = Path(address.removeprefix(UNIX_PREFIX)).parent
        return UnavailableError(
            f"Can't listen on {address}.",
            f"{folder} must exist and be writable, and the path be at most 100 bytes long.",
        )
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host.strip("[]"), int(port)))
    except ValueError:
        return UnavailableError(f"{address!r} is not an address.", "Write host:port.")
    except PermissionError:
        return UnavailableError(f"Not allowed to listen on {address}.", "Choose a port above 1023.")
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            return UnavailableError(
                f"{host!r} is not an address of this machine.", "Bind to 127.0.0.1 or 0.0.0.0."
            )
    return _taken(address)


def _taken(address: str) -> AlreadyRunningError:
    return AlreadyRunningError(
        f"Something already listens on {address}.",
        "Stop it (another `corral up`?), or choose another port.",
    )
