"""The console by itself on an HTTP server, against a Corral that runs.

    python -m tests.console_server TRAINER_ADDRESS FILE [--needs-key]

The port that was found free is written into FILE. `/alive` tells how many pages are kept, and how many
tasks run for them.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from nicegui import Client

from corral.client import AsyncConnection
from corral.gateway.console import mount_console

# Parts of the names of what runs for a page; the server's own tasks come and go, and a timer of
# NiceGUI's ends with its next tick.
_OF_PAGES = ("in_context", "Debounced", "Lane.ask", "watch_job")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer")
    parser.add_argument("file", type=Path)
    parser.add_argument("--needs-key", action="store_true")
    given = parser.parse_args()
    keys: list[str] = []
    app = FastAPI()

    @app.get("/alive")
    async def alive() -> dict[str, object]:
        names = [str(task.get_coro()) for task in asyncio.all_tasks()]
        tasks = sum(any(kind in name for kind in _OF_PAGES) for name in names)
        return {"pages": len(Client.instances), "tasks": tasks, "keys": keys}

    async with AsyncConnection(given.trainer) as client:

        def client_for(key: str) -> AsyncConnection:
            keys.append(key)
            return client

        mount_console(app, client_for, needs_key=given.needs_key, reconnect_seconds=0.5)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            scratch = given.file.with_suffix(".tmp")
            scratch.write_text(str(listener.getsockname()[1]))
            scratch.replace(given.file)
            await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
