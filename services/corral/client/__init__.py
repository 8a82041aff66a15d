"""Clients over Corral's gRPC services.

`Client` and `AsyncClient` of the package corral give plain Python values; Connection and AsyncConnection
below them, one method a call, take and give messages. Each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral.client.aio import AsyncConnection as AsyncConnection
    from corral.client.connection import Connection as Connection

_HOMES = {
    "AsyncConnection": ("corral.client.aio", "AsyncConnection"),
    "Connection": ("corral.client.connection", "Connection"),
}

__all__ = ["AsyncConnection", "Connection"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
