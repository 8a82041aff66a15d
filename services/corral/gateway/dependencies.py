"""What a route needs of the process that it runs in.

Knows nothing of what routes do.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from corral.client import AsyncConnection
from corral.settings import Settings


def _client(request: Request) -> AsyncConnection:
    client: AsyncConnection = request.app.state.client
    return client


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


ClientOf = Annotated[AsyncConnection, Depends(_client)]
SettingsOf = Annotated[Settings, Depends(_settings)]
