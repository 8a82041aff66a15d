"""Both of Corral's services in memory, over a real gRPC server: what the client is tested against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from corral.errors import (
    ConflictError,
    DatasetNotFoundError,
    HubUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    ModelNotFoundError,
    UnavailableError,
)
from corral.rpc.serving import GrpcServer
from corral.settings import Settings
from corral.v1 import inference_pb2, inference_pb2_grpc, trainer_pb2, trainer_pb2_grpc

ENDED = (
    trainer_pb2.JOB_STATE_SUCCEEDED,
    trainer_pb2.JOB_STATE_FAILED,
    trainer_pb2.JOB_STATE_CANCELLED,
)


class FakeTrainer(trainer_pb2_grpc.TrainerServicer):
    """Keeps what it is sent; `losses` says when a watch's connection breaks."""

    def __init__(self) -> None:
        self.inference_address = ""
        self.upload = b""
        self.upload_name = ""
        self.chunk_sizes: list[int] = []
        self.problems: list[trainer_pb2.RowProblem] = []
        self.creations: list[trainer_pb2.CreateTrainingJobRequest] = []
        self.jobs: dict[str, trainer_pb2.TrainingJob] = {}
        self.datasets: dict[str, trainer_pb2.Dataset] = {}
        self.events: list[trainer_pb2.TrainingEvent] = []
        # How many events the next watches send before the connection is lost or just ends.
        self.losses: list[tuple[int, str]] = []
        self.watches: list[int] = []
        self.lost_creations = 0
        self.plan = trainer_pb2.TrainingPlan(steps=2, needed=2**30, fits=True)
        self.plans: list[trainer_pb2.PlanTrainingJobRequest] = []
        # Fields of jobs as they are created.
        self.created_as: dict[str, Any] = {}
        # Whether base models can be found.
        self.has_hub = True
        self.page_sizes: list[int] = []
        self.is_gone = False
        # What calls of GetServer came with as their key.
        self.authorizations: list[str] = []

    def add_job(self, job_id: str, state: str = "QUEUED", **fields: Any) -> trainer_pb2.TrainingJob:
        job = trainer_pb2.TrainingJob(id=job_id, state=f"JOB_STATE_{state}", **fields)
        job.spec.model = "gpt2"
        self.jobs[job_id] = job
        return job

    async def GetServer(self, request: Any, context: Any) -> trainer_pb2.GetServerResponse:  # noqa: N802
        sent = dict(context.invocation_metadata())
        self.authorizations += [sent["authorization"]] if "authorization" in sent else []
        return trainer_pb2.GetServerResponse(
            version="9.9.9", inference_address=self.inference_address
        )

    async def UploadDataset(  # noqa: N802
        self, requests: AsyncIterator[trainer_pb2.UploadDatasetRequest], context: Any
    ) -> trainer_pb2.UploadDatasetResponse:
        self.upload = b""
        async for request in requests:
            self.upload_name = self.upload_name or request.filename
            self.upload += request.chunk
            self.chunk_sizes.append(len(request.chunk))
        report = trainer_pb2.DatasetReport(
            rows=3, usable_rows=3, problems=self.problems, problem_count=len(self.problems)
        )
        return trainer_pb2.UploadDatasetResponse(
            dataset=trainer_pb2.Dataset(
                id="d" * 64,
                filename=self.upload_name,
                size_bytes=len(self.upload),
                format="alpaca",
                report=report,
            )
        )

    async def GetDataset(  # noqa: N802
        self, request: trainer_pb2.GetDatasetRequest, context: Any
    ) -> trainer_pb2.GetDatasetResponse:
        return trainer_pb2.GetDatasetResponse(dataset=self._dataset(request.dataset_id))

    async def ListDatasets(  # noqa: N802
        self, request: trainer_pb2.ListDatasetsRequest, context: Any
    ) -> trainer_pb2.ListDatasetsResponse:
        return trainer_pb2.ListDatasetsResponse(datasets=self.datasets.values())

    async def DeleteDataset(  # noqa: N802
        self, request: trainer_pb2.DeleteDatasetRequest, context: Any
    ) -> trainer_pb2.DeleteDatasetResponse:
        del self.datasets[self._dataset(request.dataset_id).id]
        return trainer_pb2.DeleteDatasetResponse()

    async def PlanTrainingJob(  # noqa: N802
        self, request: trainer_pb2.PlanTrainingJobRequest, context: Any
    ) -> trainer_pb2.PlanTrainingJobResponse:
        self.plans.append(request)
        return trainer_pb2.PlanTrainingJobResponse(plan=self.plan)

    async def CreateTrainingJob(  # noqa: N802
        self, request: trainer_pb2.CreateTrainingJobRequest, context: Any
    ) -> trainer_pb2.CreateTrainingJobResponse:
        self.creations.append(request)
        job_id = f"job-{request.idempotency_key[:8]}"
        job = self.jobs.get(job_id) or self.add_job(
            job_id, **{"effective_batch_size": 32, **self.created_as}
        )
        job.spec.batch_size, job.spec.gradient_accumulation_steps, job.spec.processes = 4, 8, 1
        if not self.has_hub:
            raise HubUnavailableError("The model hub can't be reached.")
        if self.lost_creations:
            self.lost_creations -= 1
            raise UnavailableError("The connection was lost.")
        return trainer_pb2.CreateTrainingJobResponse(job=job)

    async def GetTrainingJob(  # noqa: N802
        self, request: trainer_pb2.GetTrainingJobRequest, context: Any
    ) -> trainer_pb2.GetTrainingJobResponse:
        if self.is_gone:
            raise UnavailableError("Redis does not answer.")
        return trainer_pb2.GetTrainingJobResponse(job=self._job(request.job_id))

    async def ListTrainingJobs(  # noqa: N802
        self, request: trainer_pb2.ListTrainingJobsRequest, context: Any
    ) -> trainer_pb2.ListTrainingJobsResponse:
        self.page_sizes.append(request.page_size)
        found = [j for j in self.jobs.values() if not request.states or j.state in request.states]
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        return trainer_pb2.ListTrainingJobsResponse(
            jobs=found[begin:end], next_page_token=str(end) if end < len(found) else ""
        )

    async def WatchTrainingJob(  # noqa: N802
        self, request: trainer_pb2.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[trainer_pb2.WatchTrainingJobResponse]:
        self._job(request.job_id)
        self.watches.append(request.after_event)
        left, how = self.losses.pop(0) if self.losses else (len(self.events), "")
        for event in self.events[request.after_event :][:left]:
            yield trainer_pb2.WatchTrainingJobResponse(event=event)
        if how == "lost":
            raise UnavailableError("The connection was lost.")

    async def CancelTrainingJob(  # noqa: N802
        self, request: trainer_pb2.CancelTrainingJobRequest, context: Any
    ) -> trainer_pb2.CancelTrainingJobResponse:
        job = self._job(request.job_id)
        job.state = trainer_pb2.JOB_STATE_CANCELLED
        return trainer_pb2.CancelTrainingJobResponse(job=job)

    async def PauseTrainingJob(  # noqa: N802
        self, request: trainer_pb2.PauseTrainingJobRequest, context: Any
    ) -> trainer_pb2.PauseTrainingJobResponse:
        job = self._job(request.job_id)
        job.state = trainer_pb2.JOB_STATE_PAUSED
        return trainer_pb2.PauseTrainingJobResponse(job=job)

    async def ResumeTrainingJob(  # noqa: N802
        self, request: trainer_pb2.ResumeTrainingJobRequest, context: Any
    ) -> trainer_pb2.ResumeTrainingJobResponse:
        job = self._job(request.job_id)
        job.state = trainer_pb2.JOB_STATE_QUEUED
        return trainer_pb2.ResumeTrainingJobResponse(job=job)

    async def DeleteTrainingJob(  # noqa: N802
        self, request: trainer_pb2.DeleteTrainingJobRequest, context: Any
    ) -> trainer_pb2.DeleteTrainingJobResponse:
        job = self._job(request.job_id)
        if job.state not in ENDED:
            raise ConflictError(f"{job.id} has not ended.", "Cancel it first.")
        del self.jobs[job.id]
        return trainer_pb2.DeleteTrainingJobResponse()

    def _dataset(self, dataset_id: str) -> trainer_pb2.Dataset:
        if dataset_id not in self.datasets:
            raise DatasetNotFoundError(f"There is no data set {dataset_id}.")
        return self.datasets[dataset_id]

    def _job(self, job_id: str) -> trainer_pb2.TrainingJob:
        if job_id not in self.jobs:
            raise JobNotFoundError(f"There is no job {job_id}.", "corral jobs list shows them.")
        return self.jobs[job_id]


class FakeInference(inference_pb2_grpc.InferenceServicer):
    """Answers with `pieces`; a question of "endless" gets an answer that only cancelling ends."""

    def __init__(self, models: Sequence[inference_pb2.Model] = ()) -> None:
        self.models = list(models)
        self.finish = inference_pb2.Finish(completion_tokens=2)
        self.pieces = ["It is ", "so."]
        self.requests: list[inference_pb2.ChatRequest] = []
        self.cancelled = threading.Event()
        # The model that always fails.
        self.failing = ""
        self.memory = inference_pb2.InferenceMemory(budget=2**30)

    async def ListModels(self, request: Any, context: Any) -> inference_pb2.ListModelsResponse:  # noqa: N802
        return inference_pb2.ListModelsResponse(models=self.models, memory=self.memory)

    async def GetModel(  # noqa: N802
        self, request: inference_pb2.GetModelRequest, context: Any
    ) -> inference_pb2.GetModelResponse:
        for model in self.models:
            if request.model in (model.name, model.job_id):
                return inference_pb2.GetModelResponse(model=model)
        raise ModelNotFoundError(f"There is no model {request.model}.", "corral models list")

    async def Chat(  # noqa: N802
        self, request: inference_pb2.ChatRequest, context: Any
    ) -> AsyncIterator[inference_pb2.ChatResponse]:
        self.requests.append(request)
        if request.model == self.failing:
            raise InvalidRequestError(f"{request.model} broke.")
        if request.messages[-1].content == "endless":
            try:
                yield inference_pb2.ChatResponse(text="on and on ")
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        for piece in self.pieces:
            yield inference_pb2.ChatResponse(text=piece)
        yield inference_pb2.ChatResponse(finish=self.finish)


@contextmanager
def serving(trainer: FakeTrainer, inference: FakeInference | None = None) -> Iterator[str]:
    """The address of a server of both, in an event loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def on_loop(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    async def start() -> tuple[GrpcServer, str]:
        server = GrpcServer(register, address="127.0.0.1:0", settings=Settings())
        return server, await server.start()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        trainer_pb2_grpc.add_TrainerServicer_to_server(trainer, server)
        inference_pb2_grpc.add_InferenceServicer_to_server(inference or FakeInference(), server)
        return ("corral.v1.Trainer", "corral.v1.Inference")

    server, address = on_loop(start())
    trainer.inference_address = f":{address.rpartition(':')[2]}"
    try:
        yield address
    finally:
        on_loop(server.drain(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
