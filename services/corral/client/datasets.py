"""Calls about data sets: upload, list, show, download, delete.

Knows nothing of what is in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from corral.client.channels import Channels, ignore
from corral.client.paging import all_pages
from corral.client.wire import CHUNK_BYTES
from corral.errors import CorralError, DatasetError
from corral.rpc.channel import translated_errors
from corral.v1 import trainer_pb2

# Hears bytes done, and bytes in all.
OnBytes = Callable[[int, int], None]


class DatasetCalls(Channels):
    """What a client can ask of the trainer's data sets."""

    def upload_dataset(self, path: Path, on_bytes: OnBytes = ignore) -> trainer_pb2.Dataset:
        """Send a file; `on_bytes` hears how many of its bytes went out, and how many there are.

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

    def iterate_datasets(self, limit: int | None = None) -> Iterator[trainer_pb2.Dataset]:
        """Data sets, newest first."""

        def page(token: str, size: int) -> tuple[Sequence[trainer_pb2.Dataset], str]:
            request = trainer_pb2.ListDatasetsRequest(page_size=size, page_token=token)
            with translated_errors(self.address):
                answer: trainer_pb2.ListDatasetsResponse = self._trainer.ListDatasets(request)
            return answer.datasets, answer.next_page_token

        return all_pages(page, limit)

    def list_datasets(self, limit: int) -> list[trainer_pb2.Dataset]:
        """The newest data sets, at most `limit`, newest first."""
        return list(self.iterate_datasets(limit))

    def get_dataset(self, dataset_id: str) -> trainer_pb2.Dataset:
        """The data set with its report. Raises DatasetNotFoundError."""
        request = trainer_pb2.GetDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetDatasetResponse = self._trainer.GetDataset(request)
        return answer.dataset

    def download_dataset(self, dataset_id: str) -> Generator[bytes]:
        """The bytes that were uploaded, in chunks. Closing the iterator ends the call."""
        request = trainer_pb2.DownloadDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            call = self._trainer.DownloadDataset(request)
            try:
                for response in call:
                    yield response.chunk
            finally:
                call.cancel()

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a data set. Raises ConflictError while a job that has not ended needs it."""
        request = trainer_pb2.DeleteDatasetRequest(dataset_id=dataset_id)
        with translated_errors(self.address):
            self._trainer.DeleteDataset(request)


def _chunks(path: Path, on_bytes: OnBytes) -> Iterator[trainer_pb2.UploadDatasetRequest]:
    """At least one message, whose first names the file."""
    total = path.stat().st_size
    done = 0
    name = path.name
    with path.open("rb") as file:
        while (chunk := file.read(CHUNK_BYTES)) or name:
            yield trainer_pb2.UploadDatasetRequest(filename=name, chunk=chunk)
            name = ""
            done += len(chunk)
            on_bytes(done, total)
