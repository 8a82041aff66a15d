"""Client: Corral from a Python program without an event loop.

    with corral.Client("host:7470") as client:
        job = client.train("my.jsonl", model="gpt2").wait()
        print(client.chat(job.fine_tuned_model, "Who are you?").text)

Values go in and out, never messages; each call fails with a CorralError. The same with an event loop is
corral.client.asynchronous. Knows nothing of how calls are made; that is corral.client.connection.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from corral.client.answers import Answer
from corral.client.arguments import (
    Conversation,
    Sampling,
    chat_request,
    checked_spec,
    dataset_id_of,
    job_state,
)
from corral.client.channels import ignore
from corral.client.connection import Connection
from corral.client.datasets import OnBytes
from corral.client.handles import Job
from corral.client.reading import read
from corral.client.retrying import PATIENCE_SECONDS
from corral.client.values import (
    Dataset,
    JobState,
    Model,
    Plan,
    ServerInfo,
)
from corral.v1 import trainer_pb2


class Client:
    """The Corral at `server` ("host:port", or "unix:/path"). Close it, or use it in a `with`.

    `key` is sent with each call; servers don't check it yet. While a server is away, creating and
    watching a job try again for `patience_seconds`; calls that only look, for about a second.
    """

    def __init__(
        self, server: str, *, key: str = "", patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.connection = Connection(server, key=key, patience_seconds=patience_seconds)

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
        """Close the connection, and with it every call that is open."""
        self.connection.close()

    def server(self) -> ServerInfo:
        """Its version, and where its inference listens."""
        return read(ServerInfo, self.connection.server_info())

    # ------------------------------------------------------------ data

    def upload(self, path: str | PathLike[str], on_bytes: OnBytes = ignore) -> Dataset:
        """Send a file; the same bytes again are the same data set.

        `on_bytes` hears the bytes sent and the bytes in all. Raises DatasetError.
        """
        return read(Dataset, self.connection.upload_dataset(Path(path), on_bytes))

    def dataset(self, dataset_id: str) -> Dataset:
        """Raises DatasetNotFoundError."""
        return read(Dataset, self.connection.get_dataset(dataset_id))

    def datasets(self, limit: int | None = None) -> Iterator[Dataset]:
        """Newest first."""
        return (read(Dataset, one) for one in self.connection.iterate_datasets(limit))

    def delete_dataset(self, dataset_id: str) -> None:
        """Raises ConflictError while a job that has not ended needs it."""
        self.connection.delete_dataset(dataset_id)

    # ------------------------------------------------------------ training

    def plan(self, data: Dataset | str | PathLike[str], *, device: str = "", **spec: Any) -> Plan:
        """What training on a data set, or a file, would take: memory, time, price.

        `spec` are fields of corral.spec.TrainingSpec; `device` a GPU such as "A100-80GB", or "cpu".
        """
        fields = checked_spec(spec)
        return read(Plan, self.connection.plan_job(self._dataset_id(data), fields, device))

    def train(
        self,
        data: Dataset | str | PathLike[str],
        *,
        metadata: Mapping[str, str] | None = None,
        on_bytes: OnBytes = ignore,
        **spec: Any,
    ) -> Job:
        """Queue a job on a data set, or on a file, which is uploaded first.

        `spec` are fields of corral.spec.TrainingSpec, all with a default. Raises SpecError,
        DatasetError, JobTooLargeError.
        """
        fields = checked_spec(spec)
        dataset_id = self._dataset_id(data, on_bytes)
        # One key for this call: a creation that is sent again makes no second job.
        key = secrets.token_hex(16)
        return self._job(self.connection.create_job(dataset_id, fields, key, metadata))

    def job(self, job_id: str) -> Job:
        """Raises JobNotFoundError."""
        return self._job(self.connection.get_job(job_id))

    def jobs(self, *states: JobState, limit: int | None = None) -> Iterator[Job]:
        """All, or those in some states; newest first."""
        wanted = [job_state(state) for state in states]
        return (self._job(one) for one in self.connection.iterate_jobs(wanted, limit))

    # ------------------------------------------------------------ models

    def models(self) -> list[Model]:
        """Base models, and every published checkpoint."""
        return [read(Model, one) for one in self.connection.list_models().models]

    def model(self, name: str) -> Model:
        """By its name, or by a job's id with @best or @STEP behind it. Raises ModelNotFoundError."""
        return read(Model, self.connection.get_model(name))

    def chat(
        self,
        model: str,
        messages: Conversation,
        *,
        template: str | None = None,
        preamble: str | None = None,
        drop_oldest_turns: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Answer:
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
        return Answer(self.connection.ask(request))

    # ------------------------------------------------------------ inside

    def _dataset_id(self, data: Dataset | str | PathLike[str], on_bytes: OnBytes = ignore) -> str:
        if isinstance(data, Dataset):
            return data.id
        return dataset_id_of(data) or self.upload(data, on_bytes).id

    def _job(self, message: trainer_pb2.TrainingJob) -> Job:
        return read(Job, message, connection=self.connection)
