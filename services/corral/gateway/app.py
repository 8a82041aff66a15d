"""The gateway's app: OpenAI's API, health and figures.

Knows nothing of what a route does, nor of the server that runs it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from corral import __version__
from corral.client import AsyncConnection
from corral.gateway import chat, completions, files, fine_tuning, models, responses
from corral.gateway.dependencies import ClientOf
from corral.gateway.errors import RESPONSES, add_error_handlers
from corral.gateway.requests import REQUEST_ID, RequestMetrics, Surroundings
from corral.settings import Settings

_PROBE_SECONDS = 2.0
_ROUTERS = (files, fine_tuning, models, chat, completions, responses)


def create_app(client: AsyncConnection, settings: Settings, registry: CollectorRegistry) -> FastAPI:
    """The app. Whoever made the client closes it, after the app's last request."""
    app = FastAPI(
        title="Corral",
        version=__version__,
        description="OpenAI's API for fine-tuning and chatting with your own small models.",
    )
    app.state.client = client
    app.state.settings = settings
    add_error_handlers(app)
    for module in _ROUTERS:
        app.include_router(module.router)
    _add_health(app, registry, has_metrics=settings.metrics_port == 0)
    return app


def surrounded(app: ASGIApp, settings: Settings, registry: CollectorRegistry) -> ASGIApp:
    """The app with what every request gets: an id, figures, and CORS where the settings allow it."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID],
        )
    return Surroundings(app, RequestMetrics(registry))


def _add_health(app: FastAPI, registry: CollectorRegistry, *, has_metrics: bool) -> None:
    """Probes; and the figures, unless CORRAL_METRICS_PORT keeps them apart."""

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, Any]:
        """Whether this process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=RESPONSES)
    async def readyz(client: ClientOf) -> dict[str, Any]:
        """Whether trainer and inference answer too."""
        await client.check(_PROBE_SECONDS)
        return {"status": "ok"}

    if has_metrics:

        @app.get("/metrics", tags=["health"], response_class=Response)
        def metrics() -> Response:
            """Figures for Prometheus."""
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
