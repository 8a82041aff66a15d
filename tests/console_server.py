"""The console by itself on an HTTP server, against a Corral that runs: `python -m tests.console_server`.

    python -m tests.console_server TRAINER_ADDRESS FILE [KEY]

The port that was found free is written into FILE. With KEY, the console asks for an API key, and takes
every one.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from corral.client import AsyncClient
from corral.gateway.console import mount_console


async def main(trainer: str, port_file: Path, needs_key: bool) -> None:
    app = FastAPI()
    async with AsyncClient(trainer) as client:
        mount_console(app, lambda key: client, needs_key=needs_key)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            scratch = port_file.with_suffix(".tmp")
            scratch.write_text(str(listener.getsockname()[1]))
            scratch.replace(port_file)
            await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), len(sys.argv) > 3))
