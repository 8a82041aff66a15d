"""Corral fine-tunes small language models on your own instructions and lets you chat with every checkpoint.

`corral.Client` and `corral.AsyncClient` are imported on first use: importing this stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral.client.asynchronous import AsyncClient as AsyncClient
    from corral.client.sync import Client as Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from corral.client.sync import Client

        return Client
    if name == "AsyncClient":
        from corral.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
