"""Adds the console to an HTTP application.

Knows nothing of what else the application serves, or of what the pages show.
"""

from __future__ import annotations

from fastapi import FastAPI
from nicegui import ui
from starlette.routing import Match, Mount
from starlette.types import Scope

from corral.gateway.console import chat, data, dataset, job, jobs, models, start, train
from corral.gateway.console.session import Clients, Sessions

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#0b6b4d" '
    'stroke-width="2.4" stroke-linecap="round"><path d="M4 7v12M12 5v14M20 7v12M2.5 11h19M2.5 16h19"/></svg>'
)


# What is asked for below these is never a page.
_API = ("/v1/", "/healthz", "/readyz", "/metrics")
# How long a page that has lost its connection is kept: a phone was in a pocket, a laptop slept a little.
_RECONNECT_SECONDS = 60.0


def mount_console(
    app: FastAPI,
    clients: Clients,
    *,
    path: str = "/",
    needs_key: bool = False,
    reconnect_seconds: float = _RECONNECT_SECONDS,
) -> None:
    """Serve the console at `path`; call it after every other route was added, once in a process.

    `clients` gives the client that a session's calls go through, by the session's API key, which is
    empty unless `needs_key`: then each browser tab is asked for one.
    """
    sessions = Sessions(clients, needs_key)
    for page in (start, data, dataset, train, jobs, job, chat, models):
        page.register(sessions)
    ui.run_with(
        app,
        title="Corral",
        favicon=_ICON,
        dark=None,
        language="en-US",
        mount_path=path,
        tailwind=False,
        # No value of a page is bound to a plain object: nothing has to be looked at again and again.
        binding_refresh_interval=None,
        reconnect_timeout=reconnect_seconds,
        show_welcome_message=False,
    )
    [mounted] = [route for route in app.router.routes if isinstance(route, Mount)][-1:]
    app.router.routes.remove(mounted)
    app.router.routes.append(_Pages(mounted.path, app=mounted.app))


class _Pages(Mount):
    """The console behind everything else. An address of the API that is not there is answered by the
    application, in the API's words, not by a page.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"].startswith(_API):
            return Match.NONE, {}
        return super().matches(scope)
