"""Whether a server answers: gRPC's standard health check, asked until it says yes.

`python -m corral.rpc.health ADDRESS [SERVICE]` asks once, for the health checks of containers. Knows
nothing of the services behind it.
"""

from __future__ import annotations

import asyncio
import sys

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


async def _ask_once(address: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        return await is_serving(channel, service)


def main(arguments: list[str]) -> int:
    """Exit code 0 when the server says SERVING, 1 when it does not, 2 for wrong arguments."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m corral.rpc.health ADDRESS [SERVICE]\n")
        return 2
    address, service = (*arguments, "")[:2]
    if asyncio.run(_ask_once(address, service)):
        return 0
    sys.stderr.write(f"{service or 'The server'} at {address} is not serving.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
