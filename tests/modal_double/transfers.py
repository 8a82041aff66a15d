"""The HTTP side: uploads and downloads of blobs and blocks, and the door that containers knock at.

Knows URLs and bytes; what they are is blobs.py's matter.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from tests.modal_double.blobs import BLOCK, Blobs

Knock = Callable[[str, str], Awaitable[None]]


class Obstacle(Protocol):
    """What may stand between a transfer and its success."""

    async def transfer(self, verb: str) -> int | None:
        """A status to answer with instead; None: let it pass. `verb` is PUT or GET."""


class TransferServer:
    """Listens on 127.0.0.1. `knock` is told a container's id and commit or reload."""

    def __init__(self, blobs: Blobs, obstacle: Obstacle, knock: Knock) -> None:
        self._blobs = blobs
        self._obstacle = obstacle
        self._knock = knock
        self._runner: web.AppRunner | None = None
        # Requests that were answered with a scripted status.
        self.errors: list[str] = []

    async def listen(self) -> None:
        """At the same address as before, if there was one."""
        app = web.Application(client_max_size=4 * BLOCK, middlewares=[self._obstructed])
        app.router.add_put("/blobs/{name}", self._put_blob)
        app.router.add_get("/blobs/{name}", self._get_blob)
        app.router.add_put("/blocks/{name}", self._put_block)
        app.router.add_get("/lent/{name}", self._get_lent)
        app.router.add_post("/containers/{name}/{what}", self._knocked)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        port = int(self._blobs.url.rpartition(":")[2] or 0)
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self._blobs.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def go_away(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _obstructed(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.method in ("PUT", "GET"):
            await request.read()
            status = await self._obstacle.transfer(request.method)
            if status is not None:
                self.errors.append(f"{request.method} {request.path}: {status}")
                return web.Response(status=status, text="scripted")
        return await handler(request)

    async def _put_blob(self, request: web.Request) -> web.Response:
        data = await request.read()
        if hashlib.sha256(data).digest() != base64.urlsafe_b64decode(request.query["sha256"]):
            return web.Response(status=400, text="not what was announced")
        await asyncio.to_thread(self._blobs.store, "blobs", request.match_info["name"], data)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return web.Response(headers={"ETag": f'"{etag}"'})

    async def _get_blob(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._blobs.path("blobs", request.match_info["name"]))

    async def _put_block(self, request: web.Request) -> web.Response:
        data = await request.read()
        name = request.match_info["name"]
        if hashlib.sha256(data).hexdigest() != name:
            return web.Response(status=400, text="not the block that was announced")
        await asyncio.to_thread(self._blobs.store, "blocks", name, data)
        return web.Response(body=f"received {name}".encode())

    async def _get_lent(self, request: web.Request) -> web.StreamResponse:
        data = await asyncio.to_thread(self._blobs.lent, request.match_info["name"])
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return web.Response(body=data, headers={"Repr-Digest": f"sha-256=:{digest}:"})

    async def _knocked(self, request: web.Request) -> web.Response:
        await self._knock(request.match_info["name"], request.match_info["what"])
        return web.Response()
