"""The client side: channels on which every call has a deadline, and errors come as CorralErrors.

Knows nothing of which services there are. Needs grpcio only, so that the `corral` command runs
without the servers' libraries.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from corral.rpc.errors import from_rpc_error

# Deadlines in seconds of calls that come without one.
UNARY_SECONDS = 30.0
# A watch may last as long as a training job; finite, so that nothing is forgotten for ever.
STREAM_SECONDS = 24 * 3600.0
# Calls that look at every row of a data set before they answer.
CHECKING_SECONDS = 600.0
_CHECKING_CALLS = ("/CreateTrainingJob",)

# A page of data sets or jobs is kept below 4 MiB by the server, one job with a long log is too.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server on a laptop sleeps and wakes: try again soon, not after gRPC's two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Connecting through a proxy from the environment to a server on this machine never works.
    ("grpc.enable_http_proxy", 0),
)

Request = Any
Requests = AsyncIterable[Any] | Iterable[Any]


def open_channel(address: str) -> grpc.Channel:
    """A channel to `host:port` or `unix:/path` for code without an event loop. Close it."""
    channel = grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.intercept_channel(channel, _Deadlines())


def open_aio_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path` for the running event loop. Close it."""
    interceptors = (_AioUnaryUnary(), _AioUnaryStream(), _AioStreamUnary(), _AioStreamStream())
    return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=interceptors)


@contextmanager
def translated_errors(address: str = "") -> Iterator[None]:
    """Within it, a failed call raises the CorralError that the server raised.

    Around blocking and awaited calls alike, and around reading from a stream.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, address) from None


# ---------------------------------------------------------------- default deadlines


def _unary_seconds(method: str | bytes) -> float:
    name = method.decode() if isinstance(method, bytes) else method
    return CHECKING_SECONDS if name.endswith(_CHECKING_CALLS) else UNARY_SECONDS


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


def _with_deadline(details: grpc.ClientCallDetails, seconds: float) -> grpc.ClientCallDetails:
    if details.timeout is not None:
        return details
    return _Details(
        details.method,
        seconds,
        details.metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )


class _Deadlines(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Request
    ) -> Any:
        return continuation(_with_deadline(details, _unary_seconds(details.method)), request)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Request
    ) -> Any:
        return continuation(_with_deadline(details, STREAM_SECONDS), request)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Requests
    ) -> Any:
        return continuation(_with_deadline(details, STREAM_SECONDS), requests)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Requests
    ) -> Any:
        return continuation(_with_deadline(details, STREAM_SECONDS), requests)


def _aio_with_deadline(
    details: grpc.aio.ClientCallDetails, seconds: float
) -> grpc.aio.ClientCallDetails:
    if details.timeout is not None:
        return details
    return grpc.aio.ClientCallDetails(
        details.method, seconds, details.metadata, details.credentials, details.wait_for_ready
    )


# Four classes: grpc.aio registers an interceptor for the first kind of call only that it fits.


class _AioUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Any:
        seconds = _unary_seconds(details.method)
        return await continuation(_aio_with_deadline(details, seconds), request)


class _AioUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Any:
        return await continuation(_aio_with_deadline(details, STREAM_SECONDS), request)


class _AioStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        requests: Requests,
    ) -> Any:
        return await continuation(_aio_with_deadline(details, STREAM_SECONDS), requests)


class _AioStreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        requests: Requests,
    ) -> Any:
        return await continuation(_aio_with_deadline(details, STREAM_SECONDS), requests)
