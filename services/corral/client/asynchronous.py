"""AsyncClient: corral.client.sync's Client, for a program with an event loop.

    async with corral.AsyncClient("host:7470") as client:
        job = await client.train("my.jsonl", model="gpt2")
        async for event in job.watch():
            ...

Knows nothing of how calls are made; that is corral.client.aio.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from itertools import count
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from corral.client.aio import AsyncConnection
from corral.client.answers import AsyncAnswer
from corral.client.arguments import (
    Conversation,
    Sampling,
    chat_request,
    checked_spec,
    dataset_id_of,
    job_state,
)
from corral.client.channels import ignore
from corral.client.datasets import OnBytes
from corral.client.handles import AsyncJob
from corral.client.reading import read
from corral.client.retrying import PATIENCE_SECONDS, Patience
from corral.client.values import (
    Dataset,
    JobState,
    Model,
    Plan,
    ServerInfo,
)
from corral.client.wire import CHUNK_BYTES
from corral.errors import CorralError, DatasetError
from corral.v1 import trainer_pb2

_Result = TypeVar("_Result")


class AsyncClient:
    """The Corral at `server` ("host:port", or "unix:/path"). Close it, or use it in an `async with`.

    As corral.Client, and belongs to one event loop.
    """

    def __init__(
        self, server: str, *, key: str = "", patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.connection = AsyncConnection(server, key=key)
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, and with it every call that is open."""
        await self.connection.close()

    async def server(self) -> ServerInfo:
        """Its version, and where its inference listens."""
        return read(ServerInfo, await self.connection.server_info())

    # ------------------------------------------------------------ data

    async def upload(self, path: str | PathLike[str], on_bytes: OnBytes = ignore) -> Dataset:
        """Send a file; the same bytes again are the same data set.

        `on_bytes` hears the bytes sent and the bytes in all. Raises DatasetError.
        """
        file = Path(path)
        return read(
            Dataset, await self.connection.upload_dataset(file.name, _pieces(file, on_bytes))
        )

    async def dataset(self, dataset_id: str) -> Dataset:
        """Raises DatasetNotFoundError."""
        return read(Dataset, await self.connection.get_dataset(dataset_id))

    async def datasets(self, limit: int | None = None) -> AsyncGenerator[Dataset]:
        """Newest first."""
        async for one in _at_most(limit, self.connection.datasets()):
            yield read(Dataset, one)

    async def delete_dataset(self, dataset_id: str) -> None:
        """Raises ConflictError while a job that has not ended needs it."""
        await self.connection.delete_dataset(dataset_id)

    # ------------------------------------------------------------ training

    async def plan(
        self, data: Dataset | str | PathLike[str], *, device: str = "", **spec: Any
    ) -> Plan:
        """What training on a data set, or a file, would take: memory, time, price.

        `spec` are fields of corral.spec.TrainingSpec; `device` a GPU such as "A100-80GB", or "cpu".
        """
        fields = checked_spec(spec)
        return read(
            Plan, await self.connection.plan_job(await self._dataset_id(data), fields, device)
        )

    async def train(
        self,
        data: Dataset | str | PathLike[str],
        *,
        metadata: Mapping[str, str] | None = None,
        on_bytes: OnBytes = ignore,
        **spec: Any,
    ) -> AsyncJob:
        """Queue a job on a data set, or on a file, which is uploaded first.

        `spec` are fields of corral.spec.TrainingSpec, all with a default. Raises SpecError,
        DatasetError, JobTooLargeError.
        """
        fields = checked_spec(spec)
        dataset_id = await self._dataset_id(data, on_bytes)
        # One key for this call: a creation that is sent again makes no second job.
        key = secrets.token_hex(16)
        return self._job(
            await _patiently(
                lambda: self.connection.create_job(
                    dataset_id, fields, idempotency_key=key, metadata=metadata
                ),
                Patience(self._patience_seconds),
            )
        )

    async def job(self, job_id: str) -> AsyncJob:
        """Raises JobNotFoundError."""
        return self._job(await self.connection.get_job(job_id))

    async def jobs(self, *states: JobState, limit: int | None = None) -> AsyncGenerator[AsyncJob]:
        """All, or those in some states; newest first."""
        wanted = [job_state(state) for state in states]
        async for one in _at_most(limit, self.connection.jobs(wanted)):
            yield self._job(one)

    # ------------------------------------------------------------ models

    async def models(self) -> list[Model]:
        """Base models, and every published checkpoint."""
        return [read(Model, one) async for one in self.connection.models()]

    async def model(self, name: str) -> Model:
        """By its name, or by a job's id with @best or @STEP behind it. Raises ModelNotFoundError."""
        return read(Model, await self.connection.get_model(name))

    def chat(
        self,
        model: str,
        messages: Conversation,
        *,
        template: str | None = None,
        preamble: str | None = None,
        drop_oldest_turns: bool = False,
        **sampling: Unpack[Sampling],
    ) -> AsyncAnswer:
        """Ask a model, given a question or the turns up to it; the answer comes in pieces.

        `template` and `preamble` stand in for what the model was trained with.
        """
        request = chat_request(
            model,
            messages,
            sampling,
            template=template,
            preamble=preamble,
            drop_oldest_turns=drop_oldest_turns,
        )
        return AsyncAnswer(self.connection.chat(request))

    # ------------------------------------------------------------ inside

    async def _dataset_id(
        self, data: Dataset | str | PathLike[str], on_bytes: OnBytes = ignore
    ) -> str:
        if isinstance(data, Dataset):
            return data.id
        return dataset_id_of(data) or (await self.upload(data, on_bytes)).id

    def _job(self, message: trainer_pb2.TrainingJob) -> AsyncJob:
        return read(
            AsyncJob,
            message,
            connection=self.connection,
            patience_seconds=self._patience_seconds,
        )


async def _patiently(call: Callable[[], Awaitable[_Result]], patience: Patience) -> _Result:
    """Make a call that may be repeated, again and again while the server does not answer."""
    while True:
        try:
            return await call()
        except CorralError as error:
            pause = patience.pause_after(error)
        await asyncio.sleep(pause)


async def _at_most(limit: int | None, items: AsyncGenerator[_Result]) -> AsyncGenerator[_Result]:
    numbers = count(1)
    async for item in items:
        yield item
        if next(numbers) == limit:
            return


async def _pieces(path: Path, on_bytes: OnBytes) -> AsyncGenerator[bytes]:
    """A file's bytes, read beside the event loop."""
    done = 0
    try:
        total = path.stat().st_size  # noqa: ASYNC240 - no more than a look
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield piece
                done += len(piece)
                on_bytes(done, total)
    except OSError as error:
        raise DatasetError(f"Can't read {path}: {error.strerror}.") from None
