"""Prometheus: an HTTP endpoint for a process' figures, and the figures of its gRPC calls.

Nothing is registered globally: a process makes one CollectorRegistry and hands it to whoever measures.
The names of the calls' figures are those of the grpc-prometheus libraries, so that dashboards made
for these fit. Knows nothing of jobs or models.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIServer

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from corral.errors import AlreadyRunningError, CorralError
from corral.rpc.mapping import Handler, wrap_handler
from corral.settings import Settings

# Health checks and reflection are left out: probes would drown what users do.
_MEASURED = "/corral."
# Answers of a data base, of a check of every row, of a chat. Watches last as long as a training run.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_CALL = ("grpc_type", "grpc_service", "grpc_method")
# Below Prometheus' own deadline for a scrape, 10 s by default.
_READ_SECONDS = 5.0

_log = structlog.stdlib.get_logger(__name__)

# Figures at this moment, read in the event loop.
Read: TypeAlias = Callable[[], Awaitable[Iterable[Metric]]]


# ---------------------------------------------------------------- the endpoint


@contextmanager
def metrics_endpoint(registry: CollectorRegistry, settings: Settings) -> Iterator[None]:
    """Within it, `http://host:CORRAL_METRICS_PORT/metrics` is answered by threads of its own; with
    port 0, nothing is.

    Raises AlreadyRunningError where something else listens there.
    """
    with _listening(registry, settings) if settings.metrics_port else nullcontext():
        yield


@contextmanager
def _listening(registry: CollectorRegistry, settings: Settings) -> Iterator[None]:
    try:
        server, thread = start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise AlreadyRunningError(
            f"Metrics can't be served on {settings.host}:{settings.metrics_port}: {error}.",
            "Choose another port with CORRAL_METRICS_PORT; 0 serves none.",
        ) from error
    try:
        yield
    finally:
        _close(server, thread)


def _close(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


class LoopCollector(Collector):
    """Figures that only the event loop can read, asked for whenever Prometheus asks.

    `families` are the figures without values, which stand for those that could not be read: the
    store may be away, or the loop busy.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, families: Sequence[Metric], read: Read
    ) -> None:
        self._loop = loop
        self._families = families
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return self._families

    def collect(self) -> Iterable[Metric]:
        future = asyncio.run_coroutine_threadsafe(self._read_all(), self._loop)
        try:
            return future.result(_READ_SECONDS)
        except (CorralError, TimeoutError) as error:
            future.cancel()
            _log.warning("figures not read", error=str(error) or "the event loop is busy")
            return self._families

    async def _read_all(self) -> list[Metric]:
        return list(await self._read())


# ---------------------------------------------------------------- calls


class CallMetrics(grpc.aio.ServerInterceptor):
    """Counts and times the calls of Corral's own services. Put it in front of every other
    interceptor: it sees the status that the client gets.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "grpc_server_started", "Calls that began.", _CALL, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled",
            "Calls that ended, by status.",
            (*_CALL, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "From a call's beginning to its end.",
            _CALL,
            buckets=_SECONDS,
            registry=registry,
        )
        self._open = Gauge(
            "grpc_server_open_calls", "Calls that have not ended.", _CALL, registry=registry
        )

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_MEASURED):
            return handler
        labels = (_kind(handler), *handler_call_details.method.removeprefix("/").split("/", 1))
        return wrap_handler(handler, lambda behaviour: self._measured(behaviour, labels))

    def _measured(self, behaviour: Any, labels: tuple[str, ...]) -> Any:
        """The same kind of function, since grpc.aio looks whether it generates or returns."""
        if inspect.isasyncgenfunction(behaviour):

            async def generating(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._call(context, labels):
                    async with aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            yield response

            return generating

        async def returning(request: Any, context: Any) -> Any:
            with self._call(context, labels):
                return await behaviour(request, context)

        return returning

    @contextmanager
    def _call(self, context: Any, labels: tuple[str, ...]) -> Iterator[None]:
        began = time.monotonic()
        self._started.labels(*labels).inc()
        is_whole = False
        try:
            with self._open.labels(*labels).track_inprogress():
                yield
            is_whole = True
        finally:
            self._seconds.labels(*labels).observe(time.monotonic() - began)
            self._handled.labels(*labels, _status(context, is_whole)).inc()


def _kind(handler: Handler) -> str:
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _status(context: Any, is_whole: bool) -> str:
    """The status' name. A handler that was cancelled leaves none, whoever cancelled it."""
    if code := context.code():
        return str(code.name)
    if is_whole:
        return grpc.StatusCode.OK.name
    left = context.time_remaining()
    is_late = left is not None and left <= 0
    return (grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED).name
