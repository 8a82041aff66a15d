"""The machine that containers run on: it fills their folders, starts them, and syncs their volumes.

A container's folder has root/ (mounts and copied files, "/" for it), volumes/, bin/ first on PATH, and
home/. Its environment is what Modal sets, the image's and the function's; nothing of this process's
but PATH and the double's `container_env`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from grpclib import GRPCError
from modal_proto import api_pb2
from tests.modal_double.apps import AppService
from tests.modal_double.calls import FunctionCall
from tests.modal_double.containers import (
    Container,
    ContainerStart,
    StartContainer,
    install_gpu,
    mapped,
)
from tests.modal_double.mounts import Mount
from tests.modal_double.uploads import UploadService
from tests.modal_double.volumes import VolumeService

# Where Modal puts mounted Python sources, and starts.
HOME = "root"


class Worker:
    """Starts containers (`containers`: all that ever ran). `urls` gives where the double listens."""

    def __init__(
        self,
        folder: Path,
        start_container: StartContainer,
        apps: AppService,
        uploads: UploadService,
        volumes: VolumeService,
        urls: Callable[[str], dict[str, str]],
    ) -> None:
        self._folder = folder
        self.start_container = start_container
        self._apps = apps
        self._uploads = uploads
        self._volumes = volumes
        self._urls = urls
        self.containers: list[Container] = []
        self.container_env: dict[str, str] = {}

    async def launch(self, call: FunctionCall, definition: api_pb2.Function) -> Container:
        task_id = f"ta-{uuid4().hex[:22]}"
        folder = self._folder / task_id
        for name in (f"root/{HOME}", "volumes", "bin", "home"):
            (folder / name).mkdir(parents=True)
        self._fill(folder / "root", definition)
        mounts = await asyncio.to_thread(self._mount, folder / "volumes", definition)
        config = definition.resources.gpu_config
        gpu = f"{config.gpu_type}:{config.count}" if config.count else ""
        install_gpu(folder / "bin", gpu)
        args, kwargs = pickle.loads(call.input)
        folders = {path: mount.folder for path, mount in mounts.items()}
        start = ContainerStart(
            task_id=task_id,
            call_id=call.id,
            input_id=call.input_id,
            app=self._apps.by_id(call.function.app_id).name,
            name=call.function.name,
            function=definition,
            args=mapped(args, folders),
            kwargs=mapped(kwargs, folders),
            env=mapped(self._environment(task_id, folder, gpu, definition), folders),
            volumes=folders,
            gpu=gpu,
            attempt=call.attempts + 1,
            folder=folder,
        )
        self._volumes.mounts[task_id] = list(mounts.values())
        container = Container(start, await self.start_container(start), list(mounts.values()))
        self.containers.append(container)
        return container

    async def sync(self) -> None:
        """The background commit of every container that runs."""
        for container in self.containers:
            if not container.is_done:
                for mount in container.mounts:
                    await asyncio.to_thread(mount.commit)

    async def knock(self, task_id: str, what: str) -> None:
        """A container asks for a commit or a reload of all that it has mounted."""
        for mount in self._volumes.mounts[task_id]:
            await asyncio.to_thread(mount.reload if what == "reload" else mount.commit)

    # ------------------------------------------------------------ what a container gets

    def _fill(self, root: Path, definition: api_pb2.Function) -> None:
        image = self._uploads.images.get(definition.image_id)
        for mount_id, target in image.copied if image else ():
            self._unpack(root / target.lstrip("/"), mount_id)
        for mount_id in definition.mount_ids:
            self._unpack(root, mount_id)

    def _unpack(self, folder: Path, mount_id: str) -> None:
        for name, sha256 in self._uploads.mounts[mount_id].items():
            path = folder / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._uploads.content(sha256))

    def _mount(self, folder: Path, definition: api_pb2.Function) -> dict[str, Mount]:
        mounts = {}
        for one in definition.volume_mounts:
            with suppress(GRPCError):
                volume = self._volumes.by_id(one.volume_id)
                mounts[one.mount_path] = Mount(volume, folder / volume.id)
        return mounts

    def _environment(
        self, task_id: str, folder: Path, gpu: str, definition: api_pb2.Function
    ) -> dict[str, str]:
        image = self._uploads.images.get(definition.image_id)
        env: dict[str, Any] = dict(image.env if image else {})
        for secret_id in definition.secret_ids:
            env |= self._uploads.secrets[secret_id]
        return {
            **env,
            **self.container_env,
            **self._urls(task_id),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "root" / HOME),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(folder / "home"),
            "MODAL_TASK_ID": task_id,
            "MODAL_IS_REMOTE": "1",
            "MODAL_CONFIG_PATH": str(folder / "home" / "none.toml"),
            "MODAL_OVERRIDE_HEADERS": f"x-modal-task-id:{task_id}",
            "MODAL_DOUBLE_GPU": gpu,
            "NO_PROXY": "127.0.0.1",
        }
