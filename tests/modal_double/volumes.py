"""The calls on volumes: the volumes themselves, their files from outside, and what containers ask for.

What a container sees of a volume and gives back is mounts.py's matter. Knows nothing of functions.
"""

# ruff: noqa: N802 - the methods bear the names of Modal's calls

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.blobs import Blobs
from tests.modal_double.mounts import HALF, Mount, Volume, remove
from tests.modal_double.rpc import Caller, refused

_CREATES = {
    api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING,
    api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS,
    api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL,
}


class VolumeService:
    """The calls on volumes, by name (`volumes`) and by id."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder = folder
        self._blobs = blobs
        self.volumes: dict[str, Volume] = {}
        self.deleted: list[str] = []
        # Which containers have what mounted: filled by whoever runs containers.
        self.mounts: dict[str, list[Mount]] = {}

    def by_id(self, volume_id: str) -> Volume:
        for volume in self.volumes.values():
            if volume.id == volume_id:
                return volume
        raise refused(Status.NOT_FOUND, f"Volume {volume_id} not found")

    # ------------------------------------------------------------ the volumes themselves

    async def VolumeGetOrCreate(self, request: Any, _: Caller) -> api_pb2.VolumeGetOrCreateResponse:
        name = request.deployment_name or f"ephemeral-{uuid4().hex}"
        volume = self.volumes.get(name)
        kind = request.object_creation_type
        if volume is None and kind not in _CREATES:
            raise refused(Status.NOT_FOUND, f"Volume '{name}' not found")
        if volume and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise refused(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        if volume is None:
            volume_id = f"vo-{uuid4().hex[:22]}"
            root = self._folder / volume_id
            root.mkdir(parents=True)
            volume = Volume(volume_id, name, request.version or 1, root)
            self.volumes[name] = volume
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.id,
            version=volume.version,
            metadata=volume.metadata,
        )

    async def VolumeGetById(self, request: Any, _: Caller) -> api_pb2.VolumeGetByIdResponse:
        volume = self.by_id(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.id, metadata=volume.metadata)

    async def VolumeList(self, request: Any, _: Caller) -> api_pb2.VolumeListResponse:
        before = request.pagination.created_before or float("inf")
        named = [one for one in self.volumes.values() if one.created_at < before]
        newest = sorted(named, key=lambda one: -one.created_at)[: request.pagination.max_objects]
        items = [
            api_pb2.VolumeListItem(
                label=one.name,
                volume_id=one.id,
                created_at=one.created_at,
                metadata=one.metadata,
            )
            for one in newest
        ]
        return api_pb2.VolumeListResponse(items=items, environment_name="main")

    async def VolumeDelete(self, request: Any, _: Caller) -> Empty:
        volume = self.by_id(request.volume_id)
        del self.volumes[volume.name]
        self.deleted.append(volume.name)
        # A container may commit to it at the same moment.
        shutil.rmtree(volume.root, ignore_errors=True)
        return Empty()

    # ------------------------------------------------------------ from inside a container

    async def VolumeCommit(self, request: Any, caller: Caller) -> api_pb2.VolumeCommitResponse:
        await asyncio.to_thread(self._mounted(request.volume_id, caller).commit)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: Any, caller: Caller) -> Empty:
        await asyncio.to_thread(self._mounted(request.volume_id, caller).reload)
        return Empty()

    def _mounted(self, volume_id: str, caller: Caller) -> Mount:
        volume = self.by_id(volume_id)
        for mount in self.mounts.get(caller.task_id, []):
            if mount.volume is volume:
                return mount
        raise refused(Status.FAILED_PRECONDITION, "only a container that mounts the volume can")

    # ------------------------------------------------------------ files, from outside

    async def VolumePutFiles2(self, request: Any, _: Caller) -> api_pb2.VolumePutFiles2Response:
        volume = self.by_id(request.volume_id)
        if request.disallow_overwrite_existing_files:
            for file in request.files:
                if _inside(volume, file.path).exists():
                    raise refused(Status.ALREADY_EXISTS, f"{file.path}: already exists")
        missing = [
            api_pb2.VolumePutFiles2Response.MissingBlock(
                file_index=file_index,
                block_index=block_index,
                put_url=self._blobs.block_url(block.contents_sha256),
            )
            for file_index, file in enumerate(request.files)
            for block_index, block in enumerate(file.blocks)
            if self._blobs.block(block.contents_sha256) is None
        ]
        if not missing:
            for file in request.files:
                self._assemble(volume, file)
        return api_pb2.VolumePutFiles2Response(missing_blocks=missing)

    def _assemble(self, volume: Volume, file: Any) -> None:
        target = _inside(volume, file.path)
        if target.is_dir():
            raise refused(Status.FAILED_PRECONDITION, f"{file.path} is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{uuid4().hex}{HALF}")
        with half.open("wb") as out:
            for block in file.blocks:
                path = self._blobs.block(block.contents_sha256)
                assert path is not None
                out.write(path.read_bytes())
            # Zeros at the end need not be sent.
            out.truncate(file.size)
        half.replace(target)

    async def VolumeGetFile2(self, request: Any, _: Caller) -> api_pb2.VolumeGetFile2Response:
        path = _inside(self.by_id(request.volume_id), request.path)
        if not path.is_file():
            raise refused(Status.NOT_FOUND, f"{request.path}: no such file")
        if request.start or request.len:
            raise refused(Status.UNIMPLEMENTED, "the double reads whole files")
        try:
            size = path.stat().st_size
            urls = self._blobs.lend(path)
        except FileNotFoundError:
            raise refused(Status.NOT_FOUND, f"{request.path}: no such file") from None
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=0, len=size)

    async def VolumeListFiles2(
        self, request: Any, _: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        volume = self.by_id(request.volume_id)
        path = _inside(volume, request.path)
        if not path.exists():
            raise refused(Status.NOT_FOUND, f"{request.path}: no such file or directory")
        yield api_pb2.VolumeListFiles2Response(
            entries=_listed(volume, path, is_recursive=request.recursive)
        )

    async def VolumeRemoveFile2(self, request: Any, _: Caller) -> Empty:
        volume = self.by_id(request.volume_id)
        path = _inside(volume, request.path)
        if not path.exists():
            raise refused(Status.NOT_FOUND, f"{request.path}: no such file or directory")
        if path.is_file():
            remove(volume.root, path)
        elif request.recursive:
            shutil.rmtree(path, ignore_errors=True)
        else:
            raise refused(Status.FAILED_PRECONDITION, f"{request.path} is a directory")
        return Empty()


def _inside(volume: Volume, path: str) -> Path:
    parts = PurePosixPath("/", path).parts[1:]
    if ".." in parts:
        raise refused(Status.INVALID_ARGUMENT, f"{path} leaves the volume")
    return volume.root.joinpath(*parts)


def _listed(volume: Volume, path: Path, *, is_recursive: bool) -> list[api_pb2.FileEntry]:
    """As it is at one moment: a container's commit may take a file away meanwhile."""
    while True:
        try:
            if path.is_file():
                found = [path]
            else:
                found = sorted(path.rglob("*") if is_recursive else path.glob("*"))
            return [_entry(volume, one) for one in found if not one.name.endswith(HALF)]
        except FileNotFoundError:
            continue


def _entry(volume: Volume, path: Path) -> api_pb2.FileEntry:
    stat = path.stat()
    kind = api_pb2.FileEntry.DIRECTORY if path.is_dir() else api_pb2.FileEntry.FILE
    return api_pb2.FileEntry(
        path=str(path.relative_to(volume.root)),
        type=kind,
        mtime=int(stat.st_mtime),
        size=0 if path.is_dir() else stat.st_size,
    )
