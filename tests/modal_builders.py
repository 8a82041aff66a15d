"""A Modal double, a client of it, small apps to deploy on it, and containers that follow a script."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import modal
import pytest
from tests.modal_double import sample
from tests.modal_double.containers import ContainerStart, StartContainer, run_command
from tests.modal_double.server import ModalDouble

MOUNT = "/mounted"

_PRELUDE = """
import os, pickle, signal, subprocess, sys, time, urllib.request
from pathlib import Path

result_file, attempt = Path(sys.argv[1]), int(sys.argv[2])
volume = Path(sys.argv[3]) if len(sys.argv) > 3 else None

def hand_back(value):
    half = result_file.with_suffix(".half")
    half.write_bytes(pickle.dumps(("value", value)))
    half.replace(result_file)

def knock(what):
    url = os.environ["MODAL_DOUBLE_CONTAINER_URL"] + "/" + what
    urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()

def wait_for_ever():
    print("waiting", flush=True)
    while True:
        signal.pause()

def wait_for(path):
    while not path.exists():
        time.sleep(0.002)
"""


def scripted(script: str) -> StartContainer:
    """Containers that run Python lines instead of the function.

    They have `volume` (the first mount's folder), `attempt`, `hand_back(value)`, `knock("commit")`,
    `wait_for(path)` and `wait_for_ever()`, which says "waiting" in the log first.
    """

    async def start_container(start: ContainerStart) -> asyncio.subprocess.Process:
        given = [start.result_file, str(start.attempt), *start.volumes.values()]
        return await run_command(start, sys.executable, "-SPc", _PRELUDE + script, *given)

    return start_container


@pytest.fixture
async def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModalDouble]:
    """A double that this process's clients find."""
    async with ModalDouble(tmp_path / "modal") as server:
        server.set_environment(monkeypatch)
        yield server
        assert server.faults == [], server.faults


@pytest.fixture
async def client(double: ModalDouble) -> AsyncIterator[modal.Client]:
    """A client with a token that is good."""
    client = await double.client()
    yield client
    await client.close.aio()


class Deployments:
    """Deploys functions, and makes volumes."""

    def __init__(self, client: modal.Client) -> None:
        self.client = client

    async def volume(self, name: str = "work") -> modal.Volume:
        """A version 2 volume, there at once."""
        volume = modal.Volume.from_name(name, create_if_missing=True, version=2, client=self.client)
        await volume.hydrate.aio()
        return volume

    async def function(
        self, body: Callable[..., Any] = sample.describe, name: str = "app", **options: Any
    ) -> Any:
        """Deployed with its module's file as all that goes up, and looked up again."""
        path = Path(sample.__file__)
        image = modal.Image.debian_slim(python_version="3.11").env({"FROM_IMAGE": "a b"})
        image = image.add_local_file(path, "/root/" + sample.__name__.replace(".", "/") + ".py")
        app = modal.App(name, include_source=False, tags=options.pop("tags", None))
        app.function(image=options.pop("image", image), **options)(body)
        await app.deploy.aio(client=self.client)
        return modal.Function.from_name(name, body.__name__, client=self.client)

    def call(self, call: modal.FunctionCall[Any]) -> Any:
        """The same call, by its id."""
        return modal.FunctionCall.from_id(call.object_id, client=self.client)


@pytest.fixture
def deployments(client: modal.Client) -> Deployments:
    return Deployments(client)
