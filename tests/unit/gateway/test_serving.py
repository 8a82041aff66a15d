"""The server around the app: it drains on SIGTERM, and says why it can't begin."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import httpx
import pytest
from tests.conditions import until

from corral.errors import AlreadyRunningError, UnavailableError
from corral.gateway.probe import is_answering, main
from corral.gateway.serving import serve
from corral.settings import Settings

SECONDS = 20


class SlowApp:
    """Answers a request once `go` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def test_sigterm_lets_an_open_answer_finish_and_takes_no_other() -> None:
    app, ports = SlowApp(), []
    serving = asyncio.create_task(serve(app, Settings(gateway_port=0), ports.append))
    await until(lambda: ports, SECONDS)
    url = f"http://127.0.0.1:{ports[0]}"
    async with httpx.AsyncClient(timeout=SECONDS) as http:
        answer = asyncio.create_task(http.get(url))
        await app.asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: _is_closed(ports[0]), SECONDS)
        assert not serving.done()
        app.go.set()
        assert (await answer).text == "done"
    async with asyncio.timeout(SECONDS):
        await serving


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AlreadyRunningError, match=str(port)):
            await serve(SlowApp(), Settings(gateway_port=port))


async def test_a_host_of_another_machine_is_named() -> None:
    with pytest.raises((UnavailableError, AlreadyRunningError), match=r"192\.0\.2\.1"):
        await serve(SlowApp(), Settings(host="192.0.2.1", gateway_port=0))


async def test_the_probe_tells_who_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    assert not await is_answering(f"127.0.0.1:{port}")


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_the_probe_wants_an_address(arguments: list[str]) -> None:
    assert main(arguments) == 2
