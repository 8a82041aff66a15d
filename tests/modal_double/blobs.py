"""Blobs, and the 8 MiB blocks of version 2 volumes: files in two folders, and the URLs to them.

A block's name is its SHA-256, as volumes ask for it. Ranges of files are lent to whoever has the URL.
Knows nothing of functions and volumes, and of HTTP only where it is: transfers.py carries the bytes.
"""

# ruff: noqa: N802 - the methods bear the names of Modal's calls

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.rpc import Caller, refused

BLOCK = 8 * 1024 * 1024


class Blobs:
    """What is stored. `url` is where transfers.py listens; `uploaded` counts bytes that came there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lent: dict[str, tuple[Path, int, int]] = {}
        self.url = ""
        self.uploaded = 0
        for name in ("blobs", "blocks", "lent"):
            (folder / name).mkdir(parents=True)

    # ------------------------------------------------------------ what is stored

    def path(self, kind: str, name: str) -> Path:
        """Where one of the "blobs" or "blocks" is or will be."""
        return self._folder / kind / name

    def blob(self, blob_id: str) -> bytes:
        return self.path("blobs", blob_id).read_bytes()

    def store(self, kind: str, name: str, data: bytes) -> None:
        self.uploaded += len(data)
        path = self.path(kind, name)
        half = path.with_name(f".{uuid4().hex}")
        half.write_bytes(data)
        half.replace(path)

    def keep(self, data: bytes) -> str:
        """A new blob's id."""
        blob_id = f"bl-{uuid4().hex}"
        self.path("blobs", blob_id).write_bytes(data)
        return blob_id

    def block(self, sha256: bytes) -> Path | None:
        path = self.path("blocks", sha256.hex())
        return path if path.exists() else None

    def block_url(self, sha256: bytes) -> str:
        """Where to PUT it."""
        return f"{self.url}/blocks/{sha256.hex()}"

    def lend(self, path: Path) -> list[str]:
        """URLs of a file's blocks, as it is now: it may be replaced or deleted meanwhile."""
        copy = self._folder / "lent" / uuid4().hex
        os.link(path, copy)
        size = copy.stat().st_size
        urls = []
        for start in range(0, size, BLOCK):
            name = uuid4().hex
            self._lent[name] = (copy, start, min(BLOCK, size - start))
            urls.append(f"{self.url}/lent/{name}")
        return urls

    def lent(self, name: str) -> bytes:
        """What such a URL stands for."""
        path, start, length = self._lent[name]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    # ------------------------------------------------------------ RPC

    async def BlobCreate(self, request: Any, _: Caller) -> api_pb2.BlobCreateResponse:
        blob_id = f"bl-{uuid4().hex}"
        # The hash travels in the URL, as a signed URL would have it.
        digest = base64.urlsafe_b64encode(base64.b64decode(request.content_sha256_base64)).decode()
        return api_pb2.BlobCreateResponse(
            blob_ids=[blob_id],
            upload_urls=api_pb2.UploadUrlList(
                items=[f"{self.url}/blobs/{blob_id}?sha256={digest}"]
            ),
        )

    async def BlobGet(self, request: Any, _: Caller) -> api_pb2.BlobGetResponse:
        if not self.path("blobs", request.blob_id).exists():
            raise refused(Status.NOT_FOUND, f"no blob {request.blob_id}")
        return api_pb2.BlobGetResponse(download_url=f"{self.url}/blobs/{request.blob_id}")
