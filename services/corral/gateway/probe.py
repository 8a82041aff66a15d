"""Whether a gateway answers, asked with the standard library alone.

`python -m corral.gateway.probe ADDRESS [PATH]` asks once, for the health checks of containers. Knows
nothing of what the gateway serves.
"""

from __future__ import annotations

import asyncio
import sys

from corral.errors import UnavailableError

_ASK_SECONDS = 5.0
_PAUSE_SECONDS = 0.05


async def is_answering(address: str, path: str = "/healthz") -> bool:
    """Whether `host:port` answers a GET of that path with 200."""
    host, _, port = address.rpartition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(request.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]


async def wait_until_answering(address: str, seconds: float) -> None:
    """Return once it answers. Raises UnavailableError after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while not await is_answering(address):  # noqa: ASYNC110 - no Event of ours
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"The gateway at {address} is not ready after {seconds:g} s.", "Its log says why."
        ) from None


def main(arguments: list[str]) -> int:
    """Exit code 0 when the gateway answers, 1 when it does not, 2 for wrong arguments."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m corral.gateway.probe ADDRESS [PATH]\n")
        return 2
    if asyncio.run(is_answering(*arguments)):
        return 0
    sys.stderr.write(f"The gateway at {arguments[0]} does not answer.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
