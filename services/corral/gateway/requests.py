"""What surrounds every request: an id, a line in the log, figures.

Plain ASGI, so that bodies stream through. Knows nothing of routes' meaning. No prompt, row or answer
is logged: those are the user's.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "x-request-id"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_TOLD = 500
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds by probes and Prometheus.
_QUIET = ("/healthz", "/readyz", "/metrics")

_log = structlog.stdlib.get_logger(__name__)


class RequestMetrics:
    """Figures of requests: by method, route (never the path, which holds ids) and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route")
        self.requests = Counter(
            "corral_gateway_requests",
            "Requests that were answered.",
            (*labels, "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "corral_gateway_request_seconds",
            "From a request to the end of its answer.",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self.open = Gauge(
            "corral_gateway_open_requests", "Requests in progress.", registry=registry
        )


class Surroundings:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request=request_id)
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(REQUEST_ID.encode(), request_id.encode())]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        try:
            with self._metrics.open.track_inprogress():
                await self._answer(scope, receive, sending, lambda: status)
        finally:
            self._count(scope, status, time.monotonic() - began)
            structlog.contextvars.unbind_contextvars("request")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, status: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            # An error that is told is raised again by Starlette. Where half of an answer is out, the
            # broken connection has to say it.
            if status() != _TOLD:
                raise

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        # 0: the client left before anything was said.
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        if route not in _QUIET:
            _log.info("request", method=method, route=route, status=status, seconds=seconds)


_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


def _request_id(scope: Scope) -> str:
    """The client's own where it sent a plain one, else a new one."""
    for name, value in scope["headers"]:
        text = str(value, "latin-1")
        if name == REQUEST_ID.encode() and _PLAIN_ID.fullmatch(text):
            return text
    return f"req_{secrets.token_hex(12)}"
