"""Containers: processes of this machine, each with a folder of its own, that end with all they started.

Knows what a container gets (volumes, mounts, environment, GPU) and how one ends; not why.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modal_proto import api_pb2
from tests.modal_double.mounts import Mount

ENTRYPOINT = Path(__file__).with_name("entrypoint.py")

# As nvidia-smi names what Modal rents.
GPU_NAMES = {
    "T4": "Tesla T4",
    "L4": "NVIDIA L4",
    "A10": "NVIDIA A10",
    "L40S": "NVIDIA L40S",
    "A100-40GB": "NVIDIA A100-SXM4-40GB",
    "A100-80GB": "NVIDIA A100-SXM4-80GB",
    "RTX-PRO-6000": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "H100": "NVIDIA H100 80GB HBM3",
    "H100!": "NVIDIA H100 80GB HBM3",
    "H200": "NVIDIA H200",
    "B200": "NVIDIA B200",
}


@dataclass(frozen=True)
class ContainerStart:
    """What a container starts from. Strings in args, kwargs and env have their mount paths mapped.

    `function` is the deployed definition, `name` and `app` its names; `gpu` is "A10:2" or "".
    """

    task_id: str
    call_id: str
    input_id: str
    app: str
    name: str
    function: api_pb2.Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    env: dict[str, str]
    volumes: dict[str, Path]
    gpu: str
    attempt: int
    folder: Path

    @property
    def result_file(self) -> Path:
        return self.folder / "result"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.txt"


StartContainer = Callable[[ContainerStart], Awaitable[asyncio.subprocess.Process]]


@dataclass
class Container:
    """One that runs or ran. `ended_by` says who ended it, empty when it ended by itself."""

    start: ContainerStart
    process: asyncio.subprocess.Process
    mounts: list[Mount]
    ended_by: str = ""
    is_done: bool = False
    _was_killed: bool = False
    _kills: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def task_id(self) -> str:
        return self.start.task_id

    @property
    def log(self) -> str:
        path = self.start.log_file
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self, reason: str, grace: float | None) -> None:
        """Interrupt, and kill after `grace` seconds; 0 kills at once, None leaves it to itself.

        The first reason stands; a second end without grace still kills.
        """
        self.ended_by = self.ended_by or reason
        if grace == 0:
            self._kill()
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1 if grace is None else signal.SIGINT)
        if grace is not None:
            kill = asyncio.create_task(self._kill_after(grace))
            self._kills.add(kill)
            kill.add_done_callback(self._kills.discard)

    async def _kill_after(self, grace: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.process.wait()), grace)
            return
        self._kill()

    def _kill(self) -> None:
        if self.process.returncode is None:
            self._was_killed = True
            # By its pid too: one that has just been started does not show its environment yet.
            with suppress(ProcessLookupError):
                self.process.kill()
        for pid in processes_of(self.task_id):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def finished(self) -> None:
        """Wait for the end of all of it; what is on its volumes goes out unless it was killed."""
        await self.process.wait()
        while pids := processes_of(self.task_id):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.002)
        if not self._was_killed:
            for mount in self.mounts:
                await asyncio.to_thread(mount.commit)
        self.is_done = True

    def result(self) -> tuple[Any, ...] | None:
        """What the function handed back: ("value", …) or ("error", …)."""
        path = self.start.result_file
        return pickle.loads(path.read_bytes()) if path.exists() else None


async def run_function(start: ContainerStart) -> asyncio.subprocess.Process:
    """A container that runs the deployed function, as entrypoint.py describes."""
    function = start.function
    described = {
        "module": function.module_name,
        "function": function.implementation_name or function.function_name,
        "serialized": function.function_serialized,
        "call_id": start.call_id,
        "input_id": start.input_id,
        "arguments": pickle.dumps((start.args, start.kwargs)),
        "result_file": str(start.result_file),
    }
    (start.folder / "start").write_bytes(pickle.dumps(described))
    return await run_command(start, sys.executable, "-P", ENTRYPOINT, start.folder / "start")


async def run_command(start: ContainerStart, *command: str | Path) -> asyncio.subprocess.Process:
    """A container that runs a command; what it prints goes to the container's log."""
    with start.log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *map(str, command),
            env=start.env,
            cwd=start.folder / "root",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def write_result(result_file: Path, value: object) -> None:
    """Hand back a value, from a container of a test's own."""
    half = result_file.with_suffix(".half")
    half.write_bytes(pickle.dumps(("value", value)))
    half.replace(result_file)


def processes_of(task_id: str) -> list[int]:
    """Pids of a container's living processes, found by the mark in their environment."""
    mark = f"MODAL_TASK_ID={task_id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def mapped(value: Any, folders: Mapping[str, Path]) -> Any:
    """The value with every string that begins with a mount path beginning with the folder."""
    if isinstance(value, str):
        for path, folder in folders.items():
            if value == path or value.startswith(path.rstrip("/") + "/"):
                return str(folder) + value[len(path.rstrip("/")) :]
        return value
    if isinstance(value, dict):
        return {mapped(key, folders): mapped(one, folders) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(one, folders) for one in value)
    return value


def install_gpu(folder: Path, gpu: str) -> None:
    """An nvidia-smi in `folder` that prints the GPU's name once for each of them."""
    if not gpu:
        return
    kind, _, count = gpu.partition(":")
    names = [GPU_NAMES.get(kind, f"NVIDIA {kind}")] * int(count or 1)
    listed = "\n".join(
        f"GPU {index}: {name} (UUID: GPU-{index})" for index, name in enumerate(names)
    )
    script = folder / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *-L*) cat <<END\n{listed}\nEND\n;;\n*) cat <<END\n'
        + "\n".join(names)
        + "\nEND\n;; esac\n"
    )
    script.chmod(0o755)
