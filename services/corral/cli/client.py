"""A typed client over Corral's two services, for code without an event loop.

Every call has a deadline and fails with a CorralError that names the server. Knows nothing of
terminals: progress and reconnections go to callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from corral.cli.backoff import delays
from corral.errors import (
    CorralError,
    DatasetError,
    DeadlineError,
    HubUnavailableError,
    UnavailableError,
)
from corral.rpc.channel import open_channel, translated_errors
from corral.v1 import inference_pb2, inference_pb2_grpc, trainer_pb2, trainer_pb2_grpc

CHUNK_BYTES = 1024 * 1024
PAGE_SIZE = 200
# How long a watcher waits for a server that went away, and a creation for one that restarts.
PATIENCE_SECONDS = 120.0
PROBE_SECONDS = 5.0

END_STATES = (
    trainer_pb2.JOB_STATE_SUCCEEDED,
    trainer_pb2.JOB_STATE_FAILED,
    trainer_pb2.JOB_STATE_CANCELLED,
)

_Lost = (UnavailableError, DeadlineError)
_Result = TypeVar("_Result")


def _ignore(_: Any) -> None:
    pass


class Client:
    """The trainer at `server` ("host:port" or "unix:/path"), and the inference that it names.

    Use as a context manager, or call `close`. Channels are opened on first use.
    """

    def __init__(self, server: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.address = server
        self._patience = patience_seconds
        self._channels: list[grpc.Channel] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    # ------------------------------------------------------------ servers

    def server_info(self) -> trainer_pb2.GetServerResponse:
        """The server's version and where its inference listens."""
        with translated_errors(self.address):
            request = trainer_pb2.GetServerRequest()
            answer: trainer_pb2.GetServerResponse = self._trainer.GetServer(
                request, timeout=PROBE_SECONDS
            )
        return answer

    @cached_property
    def inference_address(self) -> str:
        """Where inference listens, as reached from here."""
        return reachable_from(self.server_info().inference_address, self.address)

    # ------------------------------------------------------------ data sets

    def upload_dataset(
        self, path: Path, on_bytes: Callable[[int], None] = _ignore
    ) -> trainer_pb2.Dataset:
        """Send a file; `on_bytes` hears how many bytes went out with each chunk.

        Raises DatasetError when the file can't be read, or is refused.
        """
        unreadable: list[OSError] = []

        def requests() -> Iterator[trainer_pb2.UploadDatasetRequest]:
            # gRPC's sending thread runs this: an exception would only end the call, unexplained.
            try:
                yield from _chunks(path, on_bytes)
            except OSError as error:
                unreadable.append(error)
                raise

        try:
            with translated_errors(self.address):
                answer: trainer_pb2.UploadDatasetResponse = self._trainer.UploadDataset(requests())
        except CorralError:
            if unreadable:
                raise DatasetError(f"Can't read {path}: {unreadable[0].strerror}.") from None
            raise
        return answer.dataset

    def list_datasets(self, limit: int) -> list[trainer_pb2.Dataset]:
        """The newest data sets, at most `limit`, newest first."""

        def page(token: str, size: int) -> tuple[Sequence[trainer_pb2.Dataset], str]:
            request = trainer_pb2.ListDatasetsRequest(page_size=size, page_token=token)
            answer: trainer_pb2.ListDatasetsResponse = self._trainer.ListDatasets(request)
            return answer.datasets, answer.next_page_token

        with translated_errors(self.address):
            return _collect(page, limit)

    def get_dataset(self, dataset_id: str) -> trainer_pb2.Dataset:
        """The data set with its report. Raises DatasetNotFoundError."""
        request = trainer_pb2.GetDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetDatasetResponse = self._trainer.GetDataset(request)
        return answer.dataset

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a data set. Raises ConflictError while a job that has not ended needs it."""
        request = trainer_pb2.DeleteDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            self._trainer.DeleteDataset(request)

    # ------------------------------------------------------------ training jobs

    def create_job(
        self, dataset_id: str, spec: Mapping[str, Any], idempotency_key: str
    ) -> trainer_pb2.TrainingJob:
        """Queue a job with the given fields of a training spec; the server fills in the others.

        A connection that is lost meanwhile is tried again: the key makes it one job.
        """
        request = trainer_pb2.CreateTrainingJobRequest(
            dataset_id=dataset_id,
            spec=trainer_pb2.TrainingSpec(**spec),
            idempotency_key=idempotency_key,
        )
        answer: trainer_pb2.CreateTrainingJobResponse = self._patiently(
            lambda: self._trainer.CreateTrainingJob(request)
        )
        return answer.job

    def get_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """The job now. Raises JobNotFoundError."""
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetTrainingJobResponse = self._trainer.GetTrainingJob(request)
        return answer.job

    def list_jobs(self, limit: int, states: Sequence[str] = ()) -> list[trainer_pb2.TrainingJob]:
        """The newest jobs, at most `limit`, newest first; states as JOB_STATE_RUNNING."""

        def page(token: str, size: int) -> tuple[Sequence[trainer_pb2.TrainingJob], str]:
            request = trainer_pb2.ListTrainingJobsRequest(
                page_size=size, page_token=token, states=states
            )
            answer: trainer_pb2.ListTrainingJobsResponse = self._trainer.ListTrainingJobs(request)
            return answer.jobs, answer.next_page_token

        with translated_errors(self.address):
            return _collect(page, limit)

    def cancel_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Ask for the job's end; returns it as it is right after."""
        request = trainer_pb2.CancelTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.CancelTrainingJobResponse = self._trainer.CancelTrainingJob(request)
        return answer.job

    def delete_job(self, job_id: str) -> None:
        """Remove an ended job with its checkpoints and logs."""
        request = trainer_pb2.DeleteTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            self._trainer.DeleteTrainingJob(request)

    def watch_job(
        self, job_id: str, after: int = 0, on_lost: Callable[[CorralError], None] = _ignore
    ) -> Iterator[trainer_pb2.TrainingEvent]:
        """Every event of the job after a number, each once, until its end.

        When the connection is lost, `on_lost` hears it, and the watch goes on behind the last event
        once the server answers again. Raises UnavailableError after the client's patience.
        """
        pauses = delays(0.1, 5.0)
        while True:
            try:
                for event in self._watch_once(job_id, after):
                    after = event.number
                    pauses = delays(0.1, 5.0)
                    yield event
                    if event.state_change.state in END_STATES:
                        return
                # A server that shuts down may end the stream as if all was said.
                if self.get_job(job_id).state in END_STATES:
                    return
            except _Lost as lost:
                on_lost(lost)
            time.sleep(next(pauses))
            self._wait_for_answer(job_id)

    # ------------------------------------------------------------ models

    def list_models(self, limit: int) -> list[inference_pb2.Model]:
        """Base models and published checkpoints, at most `limit`."""

        def page(token: str, size: int) -> tuple[Sequence[inference_pb2.Model], str]:
            request = inference_pb2.ListModelsRequest(page_size=size, page_token=token)
            answer: inference_pb2.ListModelsResponse = self._inference.ListModels(request)
            return answer.models, answer.next_page_token

        with translated_errors(self.inference_address):
            return _collect(page, limit)

    def get_model(self, model: str) -> inference_pb2.Model:
        """A model by its name, or a job's newest checkpoint by the job's id."""
        with translated_errors(self.inference_address):
            request = inference_pb2.GetModelRequest(model=model)
            answer: inference_pb2.GetModelResponse = self._inference.GetModel(request)
        return answer.model

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
    ) -> Iterator[inference_pb2.ChatResponse]:
        """Pieces of the answer, then its finish. Closing the iterator ends the call."""
        request = inference_pb2.ChatRequest(model=model, messages=messages, sampling=sampling)
        with translated_errors(self.inference_address):
            call = self._inference.Chat(request)
            try:
                yield from call
            finally:
                call.cancel()

    # ------------------------------------------------------------ inside

    @cached_property
    def _trainer(self) -> trainer_pb2_grpc.TrainerStub:
        return trainer_pb2_grpc.TrainerStub(self._open(self.address))

    @cached_property
    def _inference(self) -> inference_pb2_grpc.InferenceStub:
        return inference_pb2_grpc.InferenceStub(self._open(self.inference_address))

    def _open(self, address: str) -> grpc.Channel:
        channel = open_channel(address)
        self._channels.append(channel)
        return channel

    def _watch_once(self, job_id: str, after: int) -> Iterator[trainer_pb2.TrainingEvent]:
        request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_event=after)
        with translated_errors(self.address):
            call = self._trainer.WatchTrainingJob(request)
            try:
                for response in call:
                    yield response.event
            finally:
                call.cancel()

    def _wait_for_answer(self, job_id: str) -> None:
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        self._patiently(lambda: self._trainer.GetTrainingJob(request, timeout=PROBE_SECONDS))

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        """Make a call that may be repeated, again and again while the server does not answer."""
        give_up = time.monotonic() + self._patience
        for pause in delays(0.2, 5.0):
            try:
                with translated_errors(self.address):
                    return call()
            except _Lost as lost:
                # The hub's absence is the server's answer, not the server's own.
                if isinstance(lost, HubUnavailableError) or time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
        raise AssertionError("delays never end")


def reachable_from(inference: str, trainer: str) -> str:
    """The inference address as the trainer's client reaches it: ":port" is on the trainer's host."""
    if not inference.startswith(":"):
        return inference
    host = "127.0.0.1" if trainer.startswith("unix:") else trainer.rpartition(":")[0]
    return f"{host}{inference}"


def _chunks(
    path: Path, on_bytes: Callable[[int], None]
) -> Iterator[trainer_pb2.UploadDatasetRequest]:
    with path.open("rb") as file:
        first = True
        while (chunk := file.read(CHUNK_BYTES)) or first:
            name = path.name if first else ""
            yield trainer_pb2.UploadDatasetRequest(filename=name, chunk=chunk)
            on_bytes(len(chunk))
            first = False


def _collect(
    page: Callable[[str, int], tuple[Sequence[_Result], str]], limit: int
) -> list[_Result]:
    found: list[_Result] = []
    token = ""
    while len(found) < limit:
        items, token = page(token, min(PAGE_SIZE, limit - len(found)))
        found.extend(items)
        if not token:
            break
    return found
