"""Modal's volumes from outside: make, list, read, write, delete.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import modal
from modal import exception as modal_errors
from modal.types import FileEntryType

from corral.errors import UnavailableError
from corral.launchers.modal.client import ANSWER_SECONDS, Connection, translated_errors

# The only version that takes many files, and any number of writers of different ones.
_VERSION = 2


@dataclass(frozen=True)
class RemoteFile:
    """A file by its path relative to the volume, `runs/x/log.txt` say."""

    path: str
    size: int


@dataclass(frozen=True)
class RemoteVolume:
    """A volume by its name. `created_at` is seconds since the epoch."""

    name: str
    created_at: float


class Volumes:
    """The volumes of one account and environment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ensure(self, name: str) -> None:
        """Make a volume unless it is there."""
        client = await self._connection.client()
        volume = modal.Volume.from_name(
            name,
            environment_name=self._connection.environment,
            create_if_missing=True,
            version=_VERSION,
            client=client,
        )
        with translated_errors("making the volume"):
            async with asyncio.timeout(ANSWER_SECONDS):
                await volume.hydrate.aio()

    async def named(self) -> list[RemoteVolume]:
        """All of them."""
        client = await self._connection.client()
        with translated_errors("listing volumes"):
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await modal.Volume.objects.list.aio(
                    environment_name=self._connection.environment or "", client=client
                )
                infos = [await volume.info.aio() for volume in found]
        return [RemoteVolume(info.name or "", info.created_at.timestamp()) for info in infos]

    async def delete(self, name: str) -> None:
        """Delete a volume; one that is not there is deleted."""
        client = await self._connection.client()
        with translated_errors("deleting the volume"):
            async with asyncio.timeout(ANSWER_SECONDS):
                await modal.Volume.objects.delete.aio(
                    name,
                    allow_missing=True,
                    environment_name=self._connection.environment,
                    client=client,
                )

    async def files(self, name: str, path: str = "/") -> list[RemoteFile]:
        """Every file below a folder; none where the folder or the volume is not there."""
        volume = await self._volume(name)
        with translated_errors("listing files"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    entries = await volume.listdir.aio(path, recursive=True)
            except (FileNotFoundError, modal_errors.NotFoundError):
                return []
        return [
            RemoteFile(entry.path.lstrip("/"), entry.size)
            for entry in entries
            if entry.type == FileEntryType.FILE
        ]

    async def read(self, name: str, path: str) -> bytes:
        """A small file's content. Raises FileNotFoundError."""
        content = BytesIO()
        await self.read_into(name, path, content)
        return content.getvalue()

    async def read_into(self, name: str, path: str, target: BinaryIO) -> None:
        """Write a file's content, as it is committed, to an open file. Raises FileNotFoundError."""
        volume = await self._volume(name)
        with translated_errors(f"reading {path}"):
            try:
                async for chunk in volume.read_file.aio(path):
                    await asyncio.to_thread(target.write, chunk)
            except modal_errors.NotFoundError as error:
                raise FileNotFoundError(path) from error

    async def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write small files over those that are there."""
        await self._upload(name, [(BytesIO(content), path) for path, content in files.items()])

    async def upload(self, name: str, files: Iterable[tuple[Path, str]]) -> None:
        """Write local files to paths below the volume."""
        await self._upload(name, list(files))

    async def remove(self, name: str, path: str) -> None:
        """Remove a folder and all that is in it; one that is not there is removed."""
        volume = await self._volume(name)
        with translated_errors(f"removing {path}"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await volume.remove_file.aio(path, recursive=True)
            except (FileNotFoundError, modal_errors.NotFoundError):
                return

    async def _upload(self, name: str, files: list[tuple[Path | BytesIO, str]]) -> None:
        if not files:
            return
        volume = await self._volume(name)
        with translated_errors("sending files"):
            try:
                async with volume.batch_upload.aio(force=True) as batch:
                    for source, path in files:
                        batch.put_file(source, f"/{path}")
            except modal_errors.NotFoundError as error:
                raise UnavailableError(f"The volume {name} is gone.", "It is made anew.") from error

    async def _volume(self, name: str) -> modal.Volume:
        client = await self._connection.client()
        return modal.Volume.from_name(
            name, environment_name=self._connection.environment, client=client
        )
