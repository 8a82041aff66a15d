"""The gRPC Models service: base models in, any model's files out.

Runs beside Inference, whose catalog knows which names there are. Knows nothing of tensors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import structlog

from corral.bases import check_architecture
from corral.bases.hub import MODEL_PATTERNS, pull_from_hub
from corral.bases.importing import BaseRecord, Import, read_record, remove
from corral.checkpoints.manifest import MANIFEST_NAME, Manifest
from corral.data.templates import PromptTemplate
from corral.errors import ConflictError, InvalidRequestError
from corral.inference.models import Catalog
from corral.jobs.records import JobState
from corral.jobs.store import JobStore
from corral.rpc.serving import Register
from corral.v1 import models_pb2 as pb
from corral.v1 import models_pb2_grpc
from corral.volume import Volume

SERVICE = "corral.v1.Models"
MAX_CHUNK_BYTES = 1024 * 1024
# What a checkpoint or an imported base has besides, and a Hugging Face folder has not.
_OURS = (MANIFEST_NAME, "base.json")
_UNDER_WAY = tuple(state for state in JobState if not state.is_end)
_PROGRESS_SECONDS = 0.5

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.stdlib.get_logger(__name__)


class ModelsService(models_pb2_grpc.ModelsServicer):
    """Handlers only; CorralErrors leave them as they are and are mapped by corral.rpc."""

    def __init__(self, catalog: Catalog, store: JobStore, volume: Volume) -> None:
        self._catalog = catalog
        self._store = store
        self._volume = volume

    async def ImportModel(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.ImportModelRequest], context: Context
    ) -> pb.ImportModelResponse:
        first = await anext(request_iterator, None)
        if first is None:
            raise InvalidRequestError("The import has no message.", "Send the files in chunks.")
        with Import(self._volume, first.name, first.source) as arriving:
            request: pb.ImportModelRequest | None = first
            while request is not None:
                if len(request.chunk) > MAX_CHUNK_BYTES:
                    raise InvalidRequestError(
                        f"A chunk has {len(request.chunk)} bytes.",
                        f"Send at most {MAX_CHUNK_BYTES}.",
                    )
                await asyncio.to_thread(arriving.add, request.file, request.chunk)
                request = await anext(request_iterator, None)
            record = await asyncio.to_thread(arriving.finish)
        _log.info("model imported", model=record.name, source=record.source)
        return pb.ImportModelResponse(model=_imported(record))

    async def PullModel(  # noqa: N802 - the contract's name
        self, request: pb.PullModelRequest, context: Context
    ) -> AsyncIterator[pb.PullModelResponse]:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

        def on_bytes(done: int, total: int) -> None:
            # From the library's threads; the loop may be gone by the end of a call that was left.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(told.put_nowait, (done, total))

        pulling = asyncio.create_task(asyncio.to_thread(pull_from_hub, request.model, on_bytes))
        while not pulling.done():
            await asyncio.wait([pulling], timeout=_PROGRESS_SECONDS)
            if newest := _drained(told):
                progress = pb.PullProgress(done_bytes=newest[0], total_bytes=newest[1])
                yield pb.PullModelResponse(progress=progress)
        folder = await pulling
        _log.info("model pulled", model=request.model)
        yield pb.PullModelResponse(model=await asyncio.to_thread(_pulled, request.model, folder))

    async def DownloadModel(  # noqa: N802 - the contract's name
        self, request: pb.DownloadModelRequest, context: Context
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        model = await self._catalog.resolve(request.model)
        template = await asyncio.to_thread(_template_of, model.folder)
        yield pb.DownloadModelResponse(
            model=model.name, template_json=json.dumps(template.to_manifest())
        )
        files = sorted(file for pattern in MODEL_PATTERNS for file in model.folder.glob(pattern))
        for path in files:
            if path.name in _OURS:
                continue
            with await asyncio.to_thread(path.open, "rb") as file:
                async for piece in _pieces(file, path.name):
                    yield piece

    async def DeleteModel(  # noqa: N802 - the contract's name
        self, request: pb.DeleteModelRequest, context: Context
    ) -> pb.DeleteModelResponse:
        await asyncio.to_thread(read_record, self._volume, request.model)
        token, more = "", True
        while more:
            page = await self._store.list_page(1000, token, _UNDER_WAY)
            using = [job.id for job in page.jobs if job.spec.model == request.model]
            if using:
                raise ConflictError(
                    f"{request.model} is still needed by {', '.join(using[:5])}.",
                    "Wait for the end of these jobs, or cancel them.",
                )
            token = page.next_token
            more = bool(token)
        await asyncio.to_thread(remove, self._volume, request.model)
        _log.info("model deleted", model=request.model)
        return pb.DeleteModelResponse()


def registration(service: ModelsService) -> Register:
    """What corral.rpc.serving registers."""

    def register(server: grpc.aio.Server) -> Sequence[str]:
        models_pb2_grpc.add_ModelsServicer_to_server(service, server)
        return (SERVICE,)

    return register


async def _pieces(file: BinaryIO, name: str) -> AsyncIterator[pb.DownloadModelResponse]:
    """A file's content; one message of no bytes for an empty file."""
    size = file.seek(0, 2)
    file.seek(0)
    sent = 0
    while sent < size or size == 0:
        chunk = await asyncio.to_thread(file.read, MAX_CHUNK_BYTES)
        yield pb.DownloadModelResponse(file=name, file_size=size, chunk=chunk)
        sent += len(chunk)
        if not chunk:
            return


def _template_of(folder: Path) -> PromptTemplate:
    manifest = folder / MANIFEST_NAME
    if manifest.exists():
        read = Manifest.model_validate_json(manifest.read_bytes())
        return PromptTemplate.from_manifest(read.template)
    return PromptTemplate.of_base(folder)


def _drained(queue: asyncio.Queue[tuple[int, int]]) -> tuple[int, int] | None:
    newest = None
    while not queue.empty():
        newest = queue.get_nowait()
    return newest


def _imported(record: BaseRecord) -> pb.BaseModel:
    model = pb.BaseModel(
        name=record.name,
        architecture=record.architecture,
        size_bytes=record.size_bytes,
        source=record.source,
    )
    model.created_at.FromDatetime(datetime.fromtimestamp(record.created_at, UTC))
    return model


def _pulled(name: str, folder: Path) -> pb.BaseModel:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return pb.BaseModel(
        name=name, architecture=check_architecture(folder), size_bytes=size, source=name
    )
