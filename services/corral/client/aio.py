"""AsyncConnection: one method for each call of Corral's services, for code with an event loop.

Every call has a deadline and fails with a CorralError that names the server. Lists and streams are
async generators: closing one ends its call. Knows nothing of HTTP or terminals.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc

from corral.client.wire import CHUNK_BYTES, END_STATES, PAGE_SIZE, PROBE_SECONDS, reachable_from
from corral.rpc.channel import open_aio_channel, translated_errors
from corral.v1 import (
    inference_pb2,
    inference_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)


class AsyncConnection:
    """The trainer at `server` ("host:port" or "unix:/path"), and the inference that it names.

    Use as an async context manager, or call `close`. Belongs to one event loop. `inference` is where
    inference listens; empty, the trainer is asked at the first call that needs it. `key` is sent with
    each call as a bearer token. `seconds` of a
    call that writes an answer is its deadline.
    """

    def __init__(self, server: str, inference: str = "", *, key: str = "") -> None:
        self.address = server
        self._key = key
        self._inference_address = inference
        self._trainer_channel: grpc.aio.Channel | None = None
        self._inference_channel: grpc.aio.Channel | None = None

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
        """End every call and close the channels."""
        for channel in (self._trainer_channel, self._inference_channel):
            if channel is not None:
                await channel.close()

    # ------------------------------------------------------------ servers

    async def server_info(self, seconds: float = PROBE_SECONDS) -> trainer_pb2.GetServerResponse:
        """The server's version and where its inference listens."""
        with translated_errors(self.address):
            answer: trainer_pb2.GetServerResponse = await self._trainer.GetServer(
                trainer_pb2.GetServerRequest(), timeout=seconds
            )
        return answer

    async def check(self, seconds: float = PROBE_SECONDS) -> None:
        """Raises UnavailableError or DeadlineError unless trainer and inference answer."""
        await self.server_info(seconds)
        stub = await self._inference()
        with translated_errors(self._inference_address):
            await stub.ListModels(inference_pb2.ListModelsRequest(page_size=1), timeout=seconds)

    # ------------------------------------------------------------ data sets

    async def upload_dataset(
        self, filename: str, pieces: AsyncIterable[bytes]
    ) -> trainer_pb2.Dataset:
        """Send a file as its pieces come; returns the data set with the report on its rows.

        Raises DatasetError where no row is of a known format, and whatever `pieces` raises.
        """
        with translated_errors(self.address):
            call = self._trainer.UploadDataset()
            try:
                async for request in _upload_requests(filename, pieces):
                    await call.write(request)
                await call.done_writing()
                answer: trainer_pb2.UploadDatasetResponse = await call
            except grpc.aio.UsageError:
                # The call ended while it was written to; its status says why.
                answer = await call
            finally:
                call.cancel()
        return answer.dataset

    async def datasets(self) -> AsyncGenerator[trainer_pb2.Dataset]:
        """Every data set, newest first."""
        token = ""
        while True:
            request = trainer_pb2.ListDatasetsRequest(page_size=PAGE_SIZE, page_token=token)
            with translated_errors(self.address):
                page: trainer_pb2.ListDatasetsResponse = await self._trainer.ListDatasets(request)
            for dataset in page.datasets:
                yield dataset
            if not (token := page.next_page_token):
                return

    async def get_dataset(self, dataset_id: str) -> trainer_pb2.Dataset:
        """The data set with its report. Raises DatasetNotFoundError."""
        request = trainer_pb2.GetDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetDatasetResponse = await self._trainer.GetDataset(request)
        return answer.dataset

    async def download_dataset(self, dataset_id: str) -> AsyncGenerator[bytes]:
        """The bytes that were uploaded, in pieces."""
        request = trainer_pb2.DownloadDatasetRequest(dataset_id=dataset_id)
        async for response in _stream(self._trainer.DownloadDataset(request), self.address):
            yield response.chunk

    async def check_dataset(
        self, dataset_id: str, spec: Mapping[str, Any]
    ) -> trainer_pb2.CheckDatasetResponse:
        """What a model would see of the rows, with the template and the tokenizer of a spec."""
        request = trainer_pb2.CheckDatasetRequest(
            dataset_id=dataset_id, spec=trainer_pb2.TrainingSpec(**spec)
        )
        with translated_errors(self.address):
            answer: trainer_pb2.CheckDatasetResponse = await self._trainer.CheckDataset(request)
        return answer

    async def delete_dataset(self, dataset_id: str) -> None:
        """Remove a data set. Raises ConflictError while a job that has not ended needs it."""
        request = trainer_pb2.DeleteDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            await self._trainer.DeleteDataset(request)

    # ------------------------------------------------------------ training jobs

    async def plan_job(
        self, dataset_id: str, spec: Mapping[str, Any], device: str = "", *, quick: bool = False
    ) -> trainer_pb2.TrainingPlan:
        """What a job would take, on a named GPU or on what the server trains on. A quick one does
        not wait for the time to be measured.
        """
        request = trainer_pb2.PlanTrainingJobRequest(
            dataset_id=dataset_id, spec=trainer_pb2.TrainingSpec(**spec), device=device, quick=quick
        )
        with translated_errors(self.address):
            answer: trainer_pb2.PlanTrainingJobResponse = await self._trainer.PlanTrainingJob(
                request
            )
        return answer.plan

    async def create_job(
        self,
        dataset_id: str,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> trainer_pb2.TrainingJob:
        """Queue a job with the given fields of a training spec; the server fills in the others."""
        request = trainer_pb2.CreateTrainingJobRequest(
            dataset_id=dataset_id,
            spec=trainer_pb2.TrainingSpec(**spec),
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        with translated_errors(self.address):
            answer: trainer_pb2.CreateTrainingJobResponse = await self._trainer.CreateTrainingJob(
                request
            )
        return answer.job

    async def get_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """The job now. Raises JobNotFoundError."""
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetTrainingJobResponse = await self._trainer.GetTrainingJob(request)
        return answer.job

    async def jobs(
        self, states: Sequence[trainer_pb2.JobState | str] = ()
    ) -> AsyncGenerator[trainer_pb2.TrainingJob]:
        """Every job, or those in some states, newest first."""
        token = ""
        while True:
            request = trainer_pb2.ListTrainingJobsRequest(
                page_size=PAGE_SIZE, page_token=token, states=states
            )
            with translated_errors(self.address):
                page: trainer_pb2.ListTrainingJobsResponse = await self._trainer.ListTrainingJobs(
                    request
                )
            for job in page.jobs:
                yield job
            if not (token := page.next_page_token):
                return

    async def cancel_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Ask for the job's end; returns it as it is right after."""
        request = trainer_pb2.CancelTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.CancelTrainingJobResponse = await self._trainer.CancelTrainingJob(
                request
            )
        return answer.job

    async def pause_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Ask the job to stop with a checkpoint and to wait; returns it as it is right after."""
        request = trainer_pb2.PauseTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.PauseTrainingJobResponse = await self._trainer.PauseTrainingJob(
                request
            )
        return answer.job

    async def resume_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Queue a paused job again; it goes on from its newest checkpoint."""
        request = trainer_pb2.ResumeTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.ResumeTrainingJobResponse = await self._trainer.ResumeTrainingJob(
                request
            )
        return answer.job

    async def delete_job(self, job_id: str) -> None:
        """Remove an ended job with its checkpoints and logs."""
        request = trainer_pb2.DeleteTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            await self._trainer.DeleteTrainingJob(request)

    async def watch_job(
        self, job_id: str, after: int = 0
    ) -> AsyncGenerator[trainer_pb2.TrainingEvent]:
        """Every event of the job after a number, then each new one, until its end.

        Raises UnavailableError when the connection is lost; watch again behind the last event.
        """
        request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_event=after)
        async for response in _stream(self._trainer.WatchTrainingJob(request), self.address):
            yield response.event
            if response.event.state_change.state in END_STATES:
                return

    # ------------------------------------------------------------ models

    async def models(self) -> AsyncGenerator[inference_pb2.Model]:
        """Base models by name, then published checkpoints, newest first."""
        stub = await self._inference()
        token = ""
        while True:
            request = inference_pb2.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
            with translated_errors(self._inference_address):
                page: inference_pb2.ListModelsResponse = await stub.ListModels(request)
            for model in page.models:
                yield model
            if not (token := page.next_page_token):
                return

    async def inference_memory(self) -> inference_pb2.InferenceMemory:
        """What the memory of inference is used for now."""
        stub = await self._inference()
        with translated_errors(self._inference_address):
            request = inference_pb2.ListModelsRequest(page_size=1)
            answer: inference_pb2.ListModelsResponse = await stub.ListModels(request)
        return answer.memory

    async def template_of(self, model: str) -> dict[str, Any]:
        """The prompt template of a model, as its manifest has it. Raises ModelNotFoundError."""
        channel = await self._opened_inference()
        request = models_pb2.DownloadModelRequest(model=model)
        call = models_pb2_grpc.ModelsStub(channel).DownloadModel(request)
        # The first message has it; of the files nothing is wanted.
        async with aclosing(_stream(call, self._inference_address)) as responses:
            async for response in responses:
                found: dict[str, Any] = json.loads(response.template_json)
                return found
        return {}

    async def get_model(self, model: str) -> inference_pb2.Model:
        """A model by its name, or a job's newest checkpoint by the job's id."""
        stub = await self._inference()
        with translated_errors(self._inference_address):
            request = inference_pb2.GetModelRequest(model=model)
            answer: inference_pb2.GetModelResponse = await stub.GetModel(request)
        return answer.model

    async def delete_base_model(self, model: str) -> None:
        """Remove an imported base model. Raises ConflictError while a job that has not ended needs it."""
        channel = await self._opened_inference()
        with translated_errors(self._inference_address):
            await models_pb2_grpc.ModelsStub(channel).DeleteModel(
                models_pb2.DeleteModelRequest(model=model)
            )

    async def chat(
        self, request: inference_pb2.ChatRequest, seconds: float | None = None
    ) -> AsyncGenerator[inference_pb2.ChatResponse]:
        """Pieces of the answer, then its finish."""
        stub = await self._inference()
        async for response in _stream(stub.Chat(request, timeout=seconds), self._inference_address):
            yield response

    async def generate(
        self, request: inference_pb2.GenerateRequest, seconds: float | None = None
    ) -> AsyncGenerator[inference_pb2.GenerateResponse]:
        """Pieces of a text that goes on from a prompt, then its finish."""
        stub = await self._inference()
        async for response in _stream(
            stub.Generate(request, timeout=seconds), self._inference_address
        ):
            yield response

    # ------------------------------------------------------------ inside

    @property
    def _trainer(self) -> Any:
        if self._trainer_channel is None:
            self._trainer_channel = open_aio_channel(self.address, self._key)
        return trainer_pb2_grpc.TrainerStub(self._trainer_channel)

    async def _inference(self) -> Any:
        return inference_pb2_grpc.InferenceStub(await self._opened_inference())

    async def _opened_inference(self) -> grpc.aio.Channel:
        if not self._inference_address:
            info = await self.server_info()
            self._inference_address = reachable_from(info.inference_address, self.address)
        if self._inference_channel is None:
            self._inference_channel = open_aio_channel(self._inference_address, self._key)
        return self._inference_channel


async def _stream(call: Any, address: str) -> AsyncGenerator[Any]:
    """The responses of a call, which ends when this is closed."""
    try:
        with translated_errors(address):
            async for response in call:
                yield response
    finally:
        call.cancel()


async def _upload_requests(
    filename: str, pieces: AsyncIterable[bytes]
) -> AsyncGenerator[trainer_pb2.UploadDatasetRequest]:
    """At least one message, none with more than a server takes."""
    name = filename
    is_first = True
    async for piece in pieces:
        for start in range(0, len(piece), CHUNK_BYTES):
            chunk = piece[start : start + CHUNK_BYTES]
            yield trainer_pb2.UploadDatasetRequest(filename=name, chunk=chunk)
            name, is_first = "", False
    if is_first:
        yield trainer_pb2.UploadDatasetRequest(filename=name)
