"""The few calls of the Kubernetes API that this launcher makes, in JSON as the API speaks it.

Not the generated methods: those read an answer into models, which drop what a newer cluster or an
operator's template adds. Knows nothing of training.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from kubernetes.aio.client import ApiClient, Configuration

from corral.errors import LaunchError, UnavailableError
from corral.launchers.kubernetes.connection import Connection, ExistsError, Json, NotThereError

Connect: TypeAlias = Callable[[], Awaitable[Configuration]]

# How long a cluster may be away before a call gives up. An API server that restarts takes less.
PATIENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Resource:
    """A kind of object and where it lives."""

    root: str
    plural: str


JOBS = Resource("/apis/batch/v1", "jobs")
PODS = Resource("/api/v1", "pods")


class Cluster:
    """One namespace of a cluster.

    Every call raises LaunchError where the cluster refuses, and UnavailableError when it does not
    answer for `patience` seconds; `list` and `watch` have no patience, since whoever follows a kind
    of object has its own.
    """

    def __init__(
        self, connect: Connect, namespace: str, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._connect = connect
        self._namespace = namespace
        self.patience = patience
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def create(self, resource: Resource, manifest: Json) -> Json | None:
        """The object as it was made; None where one of its name exists."""
        try:
            return await self._patiently("POST", self._path(resource), body=manifest)
        except ExistsError:
            return None
        except NotThereError as error:
            raise LaunchError(
                f"The namespace {self._namespace} is not there: {error}.",
                "CORRAL_KUBERNETES_NAMESPACE names it.",
            ) from None

    async def get(self, resource: Resource, name: str) -> Json | None:
        """The object as the cluster's own store has it now, or None."""
        try:
            return await self._patiently("GET", self._path(resource, name))
        except NotThereError:
            return None

    async def last_lines(self, pod: str, container: str, lines: int) -> str:
        """The end of what a container printed; empty where the cluster does not have it."""
        connection = await self._connected()
        query = {"container": container, "tailLines": str(lines)}
        try:
            return await connection.text(f"{self._path(PODS, pod)}/log", query)
        except (NotThereError, LaunchError, UnavailableError):
            return ""

    async def delete(self, resource: Resource, name: str) -> None:
        """Begin to delete an object; it is gone once all that belongs to it is."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        try:
            await self._patiently("DELETE", self._path(resource, name), body=options)
        except NotThereError:
            return

    async def find(self, resource: Resource, labels: Mapping[str, str]) -> list[Json]:
        """All objects with these labels."""
        return _items(await self._patiently("GET", self._path(resource), _selecting(labels)))

    async def list(self, resource: Resource, labels: Mapping[str, str]) -> tuple[list[Json], str]:
        """All objects with these labels, and the version of the cluster's store that this shows."""
        connection = await self._connected()
        answer = await connection.call("GET", self._path(resource), _selecting(labels))
        return _items(answer), str(answer["metadata"]["resourceVersion"])

    async def watch(
        self, resource: Resource, labels: Mapping[str, str], version: str, seconds: int
    ) -> AsyncGenerator[Json, None]:
        """What happens to these objects after that version, for at most so many seconds: events
        with `type` ADDED, MODIFIED, DELETED or BOOKMARK, and `object`. Raises GoneError.
        """
        query = {
            **_selecting(labels),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        connection = await self._connected()
        async with aclosing(connection.stream(self._path(resource), query)) as events:
            async for event in events:
                yield event

    def _path(self, resource: Resource, name: str = "") -> str:
        path = f"{resource.root}/namespaces/{self._namespace}/{resource.plural}"
        return f"{path}/{name}" if name else path

    async def _patiently(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> Json:
        # Waiting does not mend a cluster that is not configured.
        connection = await self._connected()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        failures = 0
        while True:
            try:
                return await connection.call(method, path, query or {}, body)
            except UnavailableError:
                failures += 1
                seconds = pause(failures)
                if loop.time() + seconds > deadline:
                    raise
            await asyncio.sleep(seconds)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None:
                client = ApiClient(await self._connect())
                self._connection = Connection(client, self._namespace)
        return self._connection


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row; never the same for two who failed together."""
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads callers, hides nothing


def _selecting(labels: Mapping[str, str]) -> dict[str, str]:
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    return {"labelSelector": selector}


def _items(answer: Json) -> list[Json]:
    return answer.get("items") or []
