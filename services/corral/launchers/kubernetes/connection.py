"""One connection to the Kubernetes API: JSON in and out, and refusals as errors of ours.

Knows nothing of kinds of objects.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
from kubernetes.aio.client import ApiClient

from corral.errors import LaunchError, UnavailableError

Json: TypeAlias = dict[str, Any]

_ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
# Servers send a bookmark about every minute. A connection that is silent for longer may be one that
# a load balancer forgot; a new one goes on where it ended, at no cost.
_SILENCE_SECONDS = 90.0
_VERBS = {"POST": "create", "GET": "read", "DELETE": "delete"}


class GoneError(Exception):
    """The version to watch from is too old (410): what happened since has to be listed."""


class NotThereError(Exception):
    """No object of that name (404)."""


class ExistsError(Exception):
    """An object of that name is there (409)."""


class Connection:
    """A client of one API server, for one namespace."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def close(self) -> None:
        """Let go of it."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def call(
        self, method: str, path: str, query: Mapping[str, str], body: Json | None = None
    ) -> Json:
        """The answer's JSON. Raises what refuses it, UnavailableError where none comes."""
        patience = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        async with self._request(method, path, query, body, patience) as response:
            found: Json = await response.json(content_type=None)
            return found

    async def text(self, path: str, query: Mapping[str, str]) -> str:
        """An answer that is no JSON. Raises as `call` does."""
        patience = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        async with self._request("GET", path, query, None, patience) as response:
            return await response.text(errors="replace")

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Json, None]:
        """The events of a watch, until the server ends it. Raises as `call` does, and GoneError."""
        patience = aiohttp.ClientTimeout(connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
        async with self._request("GET", path, query, None, patience) as response:
            # A line without its end is one that the connection broke off in.
            while (line := await response.content.readline()).endswith(b"\n"):
                event: Json = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise self._refused("GET", int(status.get("code", 500)), status)
                yield event

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None,
        patience: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            request = await self._client.param_serialize(
                method, path, {}, list(query.items()), headers, body, auth_settings=["BearerToken"]
            )
            answer = await self._client.call_api(*request, _request_timeout=patience)
            async with answer.response as response:
                if response.status >= 400:
                    raise self._refused(method, response.status, await _status(response))
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as error:
            host = self._client.configuration.host
            reason = str(error) or type(error).__name__
            raise UnavailableError(
                f"The Kubernetes API at {host} does not answer: {reason}.",
                "See whether `kubectl get jobs` works from where this runs.",
            ) from error

    def _refused(self, method: str, code: int, status: Json) -> Exception:
        message = str(status.get("message") or status.get("reason") or f"status {code}")
        if code == 410:
            return GoneError(message)
        if code == 404:
            return NotThereError(message)
        if code == 409 and status.get("reason") == "AlreadyExists":
            return ExistsError(message)
        if code == 403 and "exceeded quota" in message:
            # It passes when other jobs end.
            return UnavailableError(
                f"The quota of namespace {self._namespace} has no room for another Job: {message}.",
                "Wait for other jobs to end, or have the quota raised.",
            )
        if code in (401, 403):
            verb = _VERBS[method]
            return LaunchError(
                f"Corral's service account may not {verb} here: {message}.",
                "The chart's Role gives jobs: create, get, list, watch, delete; "
                "pods: get, list, watch.",
            )
        # 409 otherwise is a conflict of writes inside the cluster; like 429 and 5xx it passes.
        if code in (409, 429) or code >= 500:
            return UnavailableError(f"The Kubernetes API answers {code}: {message}.")
        return LaunchError(
            f"The cluster does not take the request ({code}): {message}.",
            "Often a field of the pod template that this cluster does not know.",
        )


async def _status(response: aiohttp.ClientResponse) -> Json:
    """The Status object of a refusal; a proxy in between may send anything."""
    text = await response.text()
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"message": text[:200].strip()}
