"""Connections to Redis: how it is called, retried, and what its errors mean to a user.

Every script call carries a token, so that one whose answer was lost can be sent again without being
applied twice: redis-py's own Retry is the one retry helper. Knows nothing of jobs.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from corral.errors import InvalidRequestError, UnavailableError

_SCRIPTS = (
    "submit",
    "list",
    "count",
    "cancel",
    "pause",
    "resume",
    "delete",
    "claim",
    "renew",
    "started",
    "record",
    "publish",
    "unpublish",
    "finish",
    "release",
)
# Waits of about 0.05, 0.1, 0.2, 0.4, 0.8 and 1 second: a Redis that restarts is back by then.
_RETRIES = 6
_BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=1.0)
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_COMMAND_CONNECTIONS = 32
# Each open watch and each waiting worker occupies one while it blocks.
_WAITING_CONNECTIONS = 4096

# Below _ANSWER_SECONDS, or a command that waits would be taken for a dead server.
LONGEST_BLOCK_SECONDS = 5.0


class RedisConnection:
    """A client for short commands and one for commands that block, with errors translated.

    The two do not share connections: any number of watches leaves the commands their own.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._address = address_of(url)
        self._namespace = namespace
        try:
            self.commands = _client(BlockingConnectionPool, url, _COMMAND_CONNECTIONS)
            self.waiting = _client(ConnectionPool, url, _WAITING_CONNECTIONS)
        except (ValueError, redis_errors.RedisError) as error:
            raise InvalidRequestError(
                f"The address of Redis is not valid: {error}.",
                "Use redis://host:port/0, rediss://host:port/0 or unix:///path/to/socket.",
            ) from error
        self._scripts = {name: self.commands.register_script(_source(name)) for name in _SCRIPTS}

    async def close(self) -> None:
        await self.commands.aclose()
        await self.waiting.aclose()
        await self.commands.connection_pool.disconnect()
        await self.waiting.connection_pool.disconnect()

    async def call(self, script: str, *arguments: str | int) -> list[Any]:
        """Run a script of `scripts/`; returns its status word and what comes with it."""
        args = [self._namespace, secrets.token_hex(12), *arguments]
        with self.translated_errors():
            try:
                answer: list[Any] = await self._scripts[script](args=args)
            except redis_errors.NoScriptError:
                # Redis was restarted between redis-py's loading of the script and its call.
                answer = await self._scripts[script](args=args)
        return answer

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raises UnavailableError in place of the errors of a Redis that can't serve."""
        try:
            yield
        except (redis_errors.AuthenticationError, redis_errors.NoPermissionError) as error:
            raise UnavailableError(
                f"Redis at {self._address} refused the credentials: {error}.",
                "Put the user and password into REDIS_URL: redis://user:password@host:port/0.",
            ) from error
        except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
            raise UnavailableError(
                f"Redis at {self._address} does not answer: {error}.",
                "Check that it runs and that REDIS_URL names it; what was asked can be asked again.",
            ) from error
        except redis_errors.ResponseError as error:
            if not _is_the_servers_trouble(error):
                raise
            raise UnavailableError(
                f"Redis at {self._address} can't store anything now: {error}.",
                "Look at its memory, its disk and whether it is a replica.",
            ) from error


def address_of(url: str) -> str:
    """Where a Redis URL points to, without the password in it."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2] or url


def _client(kind: type[ConnectionPool], url: str, connections: int) -> Redis:
    return Redis(
        connection_pool=kind.from_url(
            url,
            # The older protocol's answers have the same shape on every supported server.
            protocol=2,
            decode_responses=True,
            retry=Retry(_BACKOFF, _RETRIES),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            max_connections=connections,
        )
    )


def _source(name: str) -> str:
    folder = resources.files("corral.jobs") / "scripts"
    parts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name)]
    return "\n".join(parts)


def _is_the_servers_trouble(error: redis_errors.ResponseError) -> bool:
    # Inside a script, Redis puts some of these behind a prefix of its own.
    kinds = (redis_errors.OutOfMemoryError, redis_errors.ReadOnlyError)
    return isinstance(error, kinds) or any(
        word in str(error) for word in ("MISCONF", "OOM", "READONLY", "MASTERDOWN", "NOREPLICAS")
    )
