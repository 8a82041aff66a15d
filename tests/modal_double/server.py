"""A Modal server in this process for the real `modal` client, which really runs what is deployed.

Start it, and give the client its address (a fixture in tests/modal_builders.py does all of this):

    async with ModalDouble(tmp_path / "modal") as double:
        double.set_environment(monkeypatch)          # MODAL_SERVER_URL, tokens, NO_PROXY, no config
        client = await modal.Client.from_credentials.aio(double.token_id, double.token_secret)
        ...                                          # deploy, spawn, poll, read volumes as usual
        double.environment()                         # the same variables for another process

What a call runs. The container is a process of this machine. `ModalDouble(folder, container=...)`
takes a function that starts it: `async container(start: ContainerStart) -> asyncio.subprocess.Process`.
The default, `containers.run_function`, starts entrypoint.py, which imports the deployed function by its
module and name from the mounts that came with it (as Modal does for functions that are not
serialized), calls it with the arguments of `spawn` in the main thread, and hands its value or its
exception back. A container of a test's own starts a command by `containers.run_command(start, …)`; it
hands a value back by `containers.write_result(start.result_file, value)`, and fails by exiting
with a code other than 0.

Mounts. Nothing can be mounted at /… in a test, so every string in the arguments and in the
function's secrets that begins with a mount path begins with the container's folder instead
("/corral/runs/x" → "<folder>/runs/x"). Pass paths as arguments, and nothing has to know.

Inside the container: MODAL_TASK_ID, MODAL_IS_REMOTE=1, MODAL_SERVER_URL point at the double, so
`modal.Volume.from_name(…).commit()` and `.reload()` of the real client work in there. Without
importing modal: `POST $MODAL_DOUBLE_CONTAINER_URL/commit` and `/reload`. Files written in a container
are seen outside after a commit, after the background sync (`double.sync_every`, seconds) and after the
container ended by itself; never after it was killed. Files written outside are seen inside after a
reload and by every container that starts later. The GPU that it got: `nvidia-smi` on PATH prints its
name once per GPU, whatever it is asked (`-L` lists them); MODAL_DOUBLE_GPU holds "A10:2". Nothing of
this process's environment is there but PATH, and what `double.container_env` adds.

Ends. Cancelling with terminate_containers and preemption interrupt the container (SIGINT, a
KeyboardInterrupt in the function), and kill it with all of its descendants after
`double.queue.grace` seconds; a timeout kills it at once. A cancelled call has its result when its
container is gone; with `double.queue.cancels_at_once` it has it at once.

Script it (all are methods of `double.trouble`, see trouble.py; a `call` is a function call's id):

    await preempt(call)                   the container is interrupted, the same input starts again
    await crash(call)                     the same without a warning and without a grace
    await time_out(call)                  this attempt's timeout is over now: retried, or it is the end
    await fail_internally(call)           the call ends with InternalFailure
    expire(call)                          its result is no longer kept
    hold_queue() / await open_queue()     calls wait for a GPU in between
    gpus_gone("H100", …)                  fall-back lists give the next one; alone they wait
    await gpus_back("H100", …)
    reject_tokens("bad" | "expired")      every request is answered so, accept_tokens() ends it
    fail_rpc(name, status, times=1)       the next answers to that call, before anything happened
    lose_answer(name, times=1)            it happened, and the answer was UNAVAILABLE; the client's own
                                          retry gets the lost answer, with is_remembered=False it
                                          happens again. times=4 loses it for good
    hold_rpc(name) -> asyncio.Event       such calls wait until it is set
    fail_uploads(times, status=500)       HTTP uploads of blobs and volume blocks
    fail_downloads(times, status=500)     HTTP downloads
    hold_transfers() -> asyncio.Event     slow blobs: HTTP waits until it is set
    await double.go_away()                nobody answers at the address; containers go on
    await double.come_back()              with everything as it was

`await double.running(call, attempt=2)` waits until that attempt's container has started.

Look at it: `double.calls` (Counter of RPC names), `double.unimplemented` (names), `double.http_errors`,
`double.faults` (the double's own), `double.apps`, `double.functions`, `double.function_calls`
(id → FunctionCall: state, attempts, containers, gpus_asked, gpus_got, result, log),
`double.containers` (every container that ran), `double.volumes` (name → Volume: `.files` of what is
committed, `.root` the folder of the committed files), `double.deleted_volumes`,
`double.uploaded_bytes`, `double.uploads` (mounts, images, secrets), `double.rates`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import modal
import pytest
from tests.modal_double.apps import App, AppService
from tests.modal_double.blobs import Blobs
from tests.modal_double.calls import Calls, FunctionCall
from tests.modal_double.containers import Container, StartContainer, run_function
from tests.modal_double.functions import Function, FunctionService
from tests.modal_double.mounts import Volume
from tests.modal_double.rpc import Record, RpcServer, servable
from tests.modal_double.transfers import TransferServer
from tests.modal_double.trouble import Trouble
from tests.modal_double.uploads import UploadService
from tests.modal_double.volumes import VolumeService
from tests.modal_double.worker import Worker

TOKEN_ID = "ak-double"
TOKEN_SECRET = "as-double"
_TICK_SECONDS = 0.02


class ModalDouble:
    """The server, in this process and on this event loop: use the client's .aio methods beside it."""

    def __init__(self, folder: Path, *, container: StartContainer = run_function) -> None:
        self.token_id, self.token_secret = TOKEN_ID, TOKEN_SECRET
        self.sync_every = 0.1
        self._folder = folder
        self._port = 0
        self._syncing: asyncio.Task[None] | None = None
        self._record = Record()
        self._blobs = Blobs(folder / "stored")
        self._apps = AppService()
        self.uploads = UploadService(self._blobs)
        self._volumes = VolumeService(folder / "volumes", self._blobs)
        self._worker = Worker(
            folder / "containers", container, self._apps, self.uploads, self._volumes, self._urls
        )
        self._calls = Calls(self._worker)
        self._functions = FunctionService(self._apps, self._calls, self._blobs)
        self.trouble = Trouble((self.token_id, self.token_secret), self._calls)
        self._transfers = TransferServer(self._blobs, self.trouble, self._worker.knock)
        services = (self._apps, self.uploads, self._volumes, self._functions, self._blobs)
        self._rpc = RpcServer(servable(services, self.trouble, self._record))

    # ------------------------------------------------------------ the server itself

    async def __aenter__(self) -> ModalDouble:
        await self.come_back()
        self._syncing = asyncio.create_task(self._sync_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        await self._calls.end_all()
        await self.go_away()

    async def go_away(self) -> None:
        """Nobody answers at the address any more. Containers go on."""
        await self._rpc.go_away()
        await self._transfers.go_away()

    async def come_back(self) -> None:
        """Listen, at the same address as before, if there was one."""
        await self._transfers.listen()
        self._port = await self._rpc.listen(self._port)

    async def _sync_for_ever(self) -> None:
        last = time.monotonic()
        while True:
            # In small steps: sync_every may be changed at any time.
            await asyncio.sleep(min(self.sync_every, _TICK_SECONDS))
            if time.monotonic() - last >= self.sync_every:
                try:
                    await self._worker.sync()
                except OSError as fault:
                    self._record.broken.append(f"sync: {fault!r}")
                last = time.monotonic()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _urls(self, task_id: str) -> dict[str, str]:
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_DOUBLE_CONTAINER_URL": f"{self._blobs.url}/containers/{task_id}",
        }

    # ------------------------------------------------------------ clients

    def environment(self) -> dict[str, str]:
        """What a process that is to reach the double has in its environment."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.token_id,
            "MODAL_TOKEN_SECRET": self.token_secret,
            "MODAL_CONFIG_PATH": str(self._folder / "there-is-no-such.toml"),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same for this process, and what the client remembers of other servers is forgotten."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("modal._environments.ENVIRONMENT_CACHE", {})

    async def client(self) -> modal.Client:
        """A client of the double's, once set_environment was called. Close it."""
        return await modal.Client.from_credentials.aio(self.token_id, self.token_secret)

    # ------------------------------------------------------------ looking at it

    @property
    def calls(self) -> Counter[str]:
        """How often each call of the interface was made."""
        return self._record.calls

    @property
    def unimplemented(self) -> list[str]:
        """Calls that the double does not know, in order."""
        return self._record.unimplemented

    @property
    def faults(self) -> list[str]:
        """What is wrong with the double itself: empty."""
        return [*self._record.broken, *map(repr, self._calls.broken)]

    @property
    def http_errors(self) -> list[str]:
        """Transfers that were refused, as scripted."""
        return self._transfers.errors

    @property
    def uploaded_bytes(self) -> int:
        """By HTTP: blobs and volume blocks."""
        return self._blobs.uploaded

    @property
    def apps(self) -> dict[str, App]:
        """By id."""
        return self._apps.apps

    @property
    def functions(self) -> dict[str, Function]:
        """By id, every variant that with_options made too."""
        return self._functions.functions

    @property
    def function_calls(self) -> dict[str, FunctionCall]:
        """By id, in order."""
        return self._calls.calls

    @property
    def containers(self) -> list[Container]:
        """All that ever ran, in order."""
        return self._worker.containers

    @property
    def volumes(self) -> dict[str, Volume]:
        """Those that are there, by name."""
        return self._volumes.volumes

    @property
    def deleted_volumes(self) -> list[str]:
        return self._volumes.deleted

    @property
    def rates(self) -> dict[str, str]:
        """What the workspace's billing rates answer."""
        return self._apps.rates

    # ------------------------------------------------------------ settings

    @property
    def container_env(self) -> dict[str, str]:
        """More variables for every container."""
        return self._worker.container_env

    def use_container(self, container: StartContainer) -> None:
        """What starts containers from now on."""
        self._worker.start_container = container

    @property
    def queue(self) -> Calls:
        """Its `grace`, `longest_delay` and `cancels_at_once` may be set; `wait_until` waits."""
        return self._calls

    async def running(self, call_id: str, attempt: int = 1) -> Container:
        """Wait until that attempt's container has started, and give it."""
        call = self._calls.calls[call_id]
        await self._calls.wait_until(lambda: call.attempts >= attempt)
        return call.containers[attempt - 1]
