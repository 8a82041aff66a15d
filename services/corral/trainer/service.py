"""The gRPC Trainer: takes data sets and jobs, tells how jobs go. Never trains.

Knows nothing of where runs run: a worker takes each job off the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import structlog

from corral import __version__, formatting
from corral.errors import ConflictError, InvalidRequestError, UnavailableError
from corral.jobs.records import Event, Submission
from corral.jobs.store import JobStore
from corral.names import check_job_id, new_job_id
from corral.rpc.serving import Register
from corral.settings import Settings
from corral.trainer import convert
from corral.trainer.admission import Admission
from corral.trainer.backends import Backends
from corral.trainer.dataset_convert import checked_to_proto, dataset_to_proto
from corral.trainer.datasets import DatasetStore
from corral.trainer.measuring import Measuring
from corral.trainer.plan_convert import plan_to_proto
from corral.trainer.planning import Planner
from corral.trainer.removal import discard, sweep
from corral.trainer.tasks import end_tasks
from corral.v1 import trainer_pb2 as pb
from corral.v1 import trainer_pb2_grpc
from corral.volume import Volume

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
# Below gRPC's 4 MiB for a message, since most clients leave that limit as it is.
_MAX_RESPONSE_BYTES = 3 * 1024 * 1024
_LONGEST_KEY = 256

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response", pb.ListDatasetsResponse, pb.ListTrainingJobsResponse)

_log = structlog.stdlib.get_logger(__name__)


class TrainerService(trainer_pb2_grpc.TrainerServicer):
    """All calls of trainer.proto. Errors leave as CorralErrors; corral.rpc maps them."""

    def __init__(self, store: JobStore, volume: Volume, settings: Settings) -> None:
        self._store = store
        self._volume = volume
        self._inference_address = settings.inference_address or f":{settings.inference_port}"
        self._launcher = settings.launcher
        self._datasets = DatasetStore(volume)
        self._admission = Admission(volume, self._datasets, Backends(settings))
        self._planner = Planner(settings, Measuring(volume))
        # A data set must not go between a job's check of it and the job's place in the queue.
        self._dataset_use = asyncio.Lock()
        self._draining = asyncio.Event()

    def end_watches(self) -> None:
        """End every open watch: a job may run for days, and a server that drains must not wait."""
        self._draining.set()

    async def tidy(self) -> None:
        """Remove what a killed server left half removed. Once, before serving."""
        await self._datasets.tidy()
        for folder in (self._volume.root / "runs", self._volume.root / "checkpoints"):
            await asyncio.to_thread(sweep, folder)

    async def GetServer(  # noqa: N802
        self, request: pb.GetServerRequest, context: Context
    ) -> pb.GetServerResponse:
        return pb.GetServerResponse(
            version=__version__,
            inference_address=self._inference_address,
            launcher=self._launcher,
        )

    # ------------------------------------------------------------ data sets

    async def UploadDataset(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.UploadDatasetRequest], context: Context
    ) -> pb.UploadDatasetResponse:
        first = await anext(request_iterator, None)
        if first is None:
            raise InvalidRequestError("The upload has no message.", "Send the file in chunks.")

        async def chunks() -> AsyncIterator[bytes]:
            yield first.chunk
            async for request in request_iterator:
                yield request.chunk

        dataset = await self._datasets.receive(first.filename, chunks())
        _log.info("data set", dataset=dataset.id, rows=dataset.report.rows)
        return pb.UploadDatasetResponse(dataset=dataset_to_proto(dataset))

    async def GetDataset(  # noqa: N802
        self, request: pb.GetDatasetRequest, context: Context
    ) -> pb.GetDatasetResponse:
        dataset = await self._datasets.get(request.dataset_id)
        return pb.GetDatasetResponse(dataset=dataset_to_proto(dataset))

    async def DownloadDataset(  # noqa: N802
        self, request: pb.DownloadDatasetRequest, context: Context
    ) -> AsyncIterator[pb.DownloadDatasetResponse]:
        dataset = await self._datasets.get(request.dataset_id)
        async with aclosing(self._datasets.read(dataset.id)) as chunks:
            async for chunk in chunks:
                yield pb.DownloadDatasetResponse(chunk=chunk)

    async def ListDatasets(  # noqa: N802
        self, request: pb.ListDatasetsRequest, context: Context
    ) -> pb.ListDatasetsResponse:
        async def page(size: int) -> pb.ListDatasetsResponse:
            found = await self._datasets.list_page(size, request.page_token)
            return pb.ListDatasetsResponse(
                datasets=map(dataset_to_proto, found.datasets), next_page_token=found.next_token
            )

        return await _fitting(page, request.page_size)

    async def DeleteDataset(  # noqa: N802
        self, request: pb.DeleteDatasetRequest, context: Context
    ) -> pb.DeleteDatasetResponse:
        dataset = await self._datasets.get(request.dataset_id)
        async with self._dataset_use:
            jobs = await self._store.jobs_using(dataset.id)
            if jobs:
                raise ConflictError(
                    "This data set is still needed by "
                    f"{formatting.count(len(jobs), 'job')}: {', '.join(jobs[:5])}.",
                    "Wait for their end, or cancel them.",
                )
            await self._datasets.delete(dataset.id)
        return pb.DeleteDatasetResponse()

    # ------------------------------------------------------------ jobs

    async def CheckDataset(  # noqa: N802
        self, request: pb.CheckDatasetRequest, context: Context
    ) -> pb.CheckDatasetResponse:
        fields = convert.spec_fields(request.spec)
        return checked_to_proto(await self._admission.check_rows(request.dataset_id, fields))

    async def PlanTrainingJob(  # noqa: N802
        self, request: pb.PlanTrainingJobRequest, context: Context
    ) -> pb.PlanTrainingJobResponse:
        fields = convert.spec_fields(request.spec)
        admitted = await self._admission.admit(request.dataset_id, fields)
        priced = await self._planner.plan(admitted, request.device, measures=not request.quick)
        return pb.PlanTrainingJobResponse(plan=plan_to_proto(priced))

    async def CreateTrainingJob(  # noqa: N802
        self, request: pb.CreateTrainingJobRequest, context: Context
    ) -> pb.CreateTrainingJobResponse:
        if len(request.idempotency_key) > _LONGEST_KEY:
            raise InvalidRequestError(f"idempotency_key: more than {_LONGEST_KEY} characters.")
        metadata = convert.checked_metadata(request.metadata)
        fields = convert.spec_fields(request.spec)
        admitted = await self._admission.admit(request.dataset_id, fields)
        self._planner.check(admitted)
        async with self._dataset_use:
            await self._datasets.get(request.dataset_id)
            job = await self._store.submit(
                Submission(
                    id=new_job_id(),
                    spec=admitted.spec,
                    dataset_id=request.dataset_id,
                    idempotency_key=request.idempotency_key,
                    metadata=metadata,
                )
            )
        _log.info("job", job=job.id, model=job.spec.model, dataset=job.dataset_id)
        return pb.CreateTrainingJobResponse(job=convert.job_to_proto(job))

    async def GetTrainingJob(  # noqa: N802
        self, request: pb.GetTrainingJobRequest, context: Context
    ) -> pb.GetTrainingJobResponse:
        job = await self._store.get(check_job_id(request.job_id))
        return pb.GetTrainingJobResponse(job=convert.job_to_proto(job))

    async def ListTrainingJobs(  # noqa: N802
        self, request: pb.ListTrainingJobsRequest, context: Context
    ) -> pb.ListTrainingJobsResponse:
        states = convert.states_from_proto(request.states)

        async def page(size: int) -> pb.ListTrainingJobsResponse:
            found = await self._store.list_page(size, request.page_token, states)
            return pb.ListTrainingJobsResponse(
                jobs=map(convert.job_to_proto, found.jobs), next_page_token=found.next_token
            )

        return await _fitting(page, request.page_size)

    async def WatchTrainingJob(  # noqa: N802
        self, request: pb.WatchTrainingJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchTrainingJobResponse]:
        if request.after_event < 0:
            raise InvalidRequestError("after_event: can't be negative.")
        job = await self._store.get(check_job_id(request.job_id))
        events = self._store.watch(job.id, request.after_event)
        # Closed as soon as the client is gone: each open watch holds a connection to the store.
        async with (
            aclosing(events),  # type: ignore[type-var]  # a generator in every store
            aclosing(until_set(events, self._draining)) as until_drained,
        ):
            async for event in until_drained:
                yield pb.WatchTrainingJobResponse(
                    event=convert.event_to_proto(event, job.model_name)
                )
        if self._draining.is_set():
            raise UnavailableError(
                "The trainer shuts down.", "Watch again behind the last event once it is back."
            )

    async def CancelTrainingJob(  # noqa: N802
        self, request: pb.CancelTrainingJobRequest, context: Context
    ) -> pb.CancelTrainingJobResponse:
        job = await self._store.cancel(check_job_id(request.job_id))
        return pb.CancelTrainingJobResponse(job=convert.job_to_proto(job))

    async def PauseTrainingJob(  # noqa: N802
        self, request: pb.PauseTrainingJobRequest, context: Context
    ) -> pb.PauseTrainingJobResponse:
        job = await self._store.pause(check_job_id(request.job_id))
        return pb.PauseTrainingJobResponse(job=convert.job_to_proto(job))

    async def ResumeTrainingJob(  # noqa: N802
        self, request: pb.ResumeTrainingJobRequest, context: Context
    ) -> pb.ResumeTrainingJobResponse:
        job = await self._store.resume(check_job_id(request.job_id))
        return pb.ResumeTrainingJobResponse(job=convert.job_to_proto(job))

    async def DeleteTrainingJob(  # noqa: N802
        self, request: pb.DeleteTrainingJobRequest, context: Context
    ) -> pb.DeleteTrainingJobResponse:
        job_id = check_job_id(request.job_id)
        # The record first: a checkpoint must not be listed when its files go.
        await self._store.delete(job_id)
        for folder in (self._volume.checkpoints(job_id), self._volume.runs(job_id)):
            await asyncio.to_thread(discard, folder)
        return pb.DeleteTrainingJobResponse()


async def until_set(events: AsyncIterator[Event], stop: asyncio.Event) -> AsyncGenerator[Event]:
    """The events, until there are no more or `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    tasks: list[asyncio.Task[Any]] = [stopping]
    try:
        while not stop.is_set():
            following = asyncio.create_task(_next(events))
            tasks = [stopping, following]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not following.done() or (event := following.result()) is None:
                return
            yield event
    finally:
        await end_tasks(tasks)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def registration(service: TrainerService) -> Register:
    """What a corral.rpc server needs to serve it."""

    def register(server: grpc.aio.Server) -> tuple[str, ...]:
        trainer_pb2_grpc.add_TrainerServicer_to_server(service, server)
        return (pb.DESCRIPTOR.services_by_name["Trainer"].full_name,)

    return register


async def _fitting(page: Callable[[int], Awaitable[Response]], asked: int) -> Response:
    """A page of the size that was asked for, or a smaller one where that would not fit a message."""
    if asked < 0:
        raise InvalidRequestError("page_size: can't be negative.")
    size = min(asked or DEFAULT_PAGE, LARGEST_PAGE)
    while True:
        response = await page(size)
        if size == 1 or response.ByteSize() <= _MAX_RESPONSE_BYTES:
            return response
        size //= 2
