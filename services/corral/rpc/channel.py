"""The client side: channels on which every call has a deadline, and errors come as CorralErrors.

Knows nothing of which services there are. Needs grpcio only, so that the `corral` command runs
without the servers' libraries.
"""

from __future__ import annotations

import json
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
_CHECKING_CALLS = ("/CreateTrainingJob", "/CheckDataset", "/PlanTrainingJob")

# Calls that gRPC itself makes again, up to three times within about a second, where the server did not
# answer: those that change nothing the second time, and never wait for a model hub. A creation and a
# watch are the client's own business.
_REPEATABLE = {
    "corral.v1.Trainer": (
        "GetServer",
        "UploadDataset",
        "GetDataset",
        "ListDatasets",
        "GetTrainingJob",
        "ListTrainingJobs",
        "CancelTrainingJob",
        "PauseTrainingJob",
        "ResumeTrainingJob",
    ),
    "corral.v1.Inference": ("ListModels", "GetModel"),
}
_RETRIES = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in _REPEATABLE.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

# A page of data sets or jobs is kept below 4 MiB by the server, one job with a long log is too.
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server on a laptop sleeps and wakes: try again soon, not after gRPC's two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Connecting through a proxy from the environment to a server on this machine never works.
    ("grpc.enable_http_proxy", 0),
)

Request = Any
Requests = AsyncIterable[Any] | Iterable[Any]


def open_channel(address: str, key: str = "") -> grpc.Channel:
    """A channel to `host:port` or `unix:/path` for code without an event loop. Close it.

    `key` goes with every call, as `authorization: Bearer KEY`.
    """
    channel = grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.intercept_channel(channel, _Deadlines(key))


def open_aio_channel(address: str, key: str = "") -> grpc.aio.Channel:
    """The same for the running event loop. Close it."""
    kinds = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)
    interceptors = [kind(key) for kind in kinds]
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


def _bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),) if key else ()


def _completed(details: grpc.ClientCallDetails, seconds: float, key: str) -> grpc.ClientCallDetails:
    """The call with a deadline where it had none, and with the key."""
    return _Details(
        details.method,
        seconds if details.timeout is None else details.timeout,
        (*(details.metadata or ()), *_bearer(key)),
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
    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Request
    ) -> Any:
        return continuation(_completed(details, _unary_seconds(details.method), self._key), request)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Request
    ) -> Any:
        return continuation(_completed(details, STREAM_SECONDS, self._key), request)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Requests
    ) -> Any:
        return continuation(_completed(details, STREAM_SECONDS, self._key), requests)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Requests
    ) -> Any:
        return continuation(_completed(details, STREAM_SECONDS, self._key), requests)


def _aio_completed(
    details: grpc.aio.ClientCallDetails, seconds: float, key: str
) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method,
        seconds if details.timeout is None else details.timeout,
        grpc.aio.Metadata(*(details.metadata or ()), *_bearer(key)),
        details.credentials,
        details.wait_for_ready,
    )


class _WithKey:
    def __init__(self, key: str) -> None:
        self._key = key


# Four classes: grpc.aio registers an interceptor for the first kind of call only that it fits.


class _AioUnaryUnary(_WithKey, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Any:
        seconds = _unary_seconds(details.method)
        return await continuation(_aio_completed(details, seconds, self._key), request)


class _AioUnaryStream(_WithKey, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Any:
        return await continuation(_aio_completed(details, STREAM_SECONDS, self._key), request)


class _AioStreamUnary(_WithKey, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        requests: Requests,
    ) -> Any:
        return await continuation(_aio_completed(details, STREAM_SECONDS, self._key), requests)


class _AioStreamStream(_WithKey, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        details: grpc.aio.ClientCallDetails,
        requests: Requests,
    ) -> Any:
        return await continuation(_aio_completed(details, STREAM_SECONDS, self._key), requests)
