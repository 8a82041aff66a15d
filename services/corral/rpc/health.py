"""Whether a server answers: gRPC's standard health check, asked until it says yes.

Knows nothing of the services behind it.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from corral.errors import UnavailableError

_CHECK_SECONDS = 2.0
_PAUSE_SECONDS = 0.05
_OPTIONS = (
    # A pool of its own, or another channel's long back-off would delay the first answer.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)


async def is_serving(channel: grpc.aio.Channel, service: str = "") -> bool:
    """Whether the service (or the whole server) says SERVING now."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_CHECK_SECONDS)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def wait_until_serving(address: str, seconds: float, service: str = "") -> None:
    """Return once the server says SERVING. Raises UnavailableError after so many seconds."""
    try:
        async with (
            asyncio.timeout(seconds),
            grpc.aio.insecure_channel(address, options=_OPTIONS) as channel,
        ):
            while not await is_serving(channel, service):  # noqa: ASYNC110 - no Event of ours
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"{service or 'The server'} at {address} is not ready after {seconds:g} s.",
            "Its log says why.",
        ) from None
