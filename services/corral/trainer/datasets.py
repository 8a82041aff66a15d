"""Data sets on the volume: received, checked for structure, listed, removed.

    datasets/<sha256>/rows            the uploaded bytes
    datasets/<sha256>/dataset.json    name, size, time and the report on the rows
    datasets/<sha256>/checked-*.json  reports for a template and tokenizer, see corral.trainer.admission
    datasets/<sha256>/prepared-*/     the rows tokenized, see corral.data.prepared

A folder appears whole, by rename. Knows nothing of jobs or gRPC.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from corral.data.checking import check_structure
from corral.data.report import Report
from corral.errors import DatasetError, DatasetNotFoundError, InvalidRequestError, StorageFullError
from corral.names import check_dataset_id
from corral.trainer.removal import UPLOAD_PREFIX, discard, sweep
from corral.volume import Volume

MAX_CHUNK_BYTES = 1024 * 1024
MAX_DATASET_BYTES = 4 * 1024**3
_RECORD_NAME = "dataset.json"
_LONGEST_FILENAME = 255


class StoredDataset(BaseModel):
    """A data set on the volume. `id` is the sha256 of its bytes; times are seconds since the epoch."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    filename: str
    size_bytes: int
    created_at: float
    # What check_structure found: independent of template and tokenizer.
    report: Report


@dataclass(frozen=True)
class DatasetPage:
    """Some data sets, and the token of the next page or an empty string."""

    datasets: tuple[StoredDataset, ...]
    next_token: str


class DatasetStore:
    """The data sets of one volume."""

    def __init__(self, volume: Volume, max_bytes: int = MAX_DATASET_BYTES) -> None:
        self._volume = volume
        self._max_bytes = max_bytes

    async def tidy(self) -> None:
        """Remove what killed servers left. Once, when a server starts."""
        await asyncio.to_thread(sweep, self._volume.datasets)

    async def receive(self, filename: str, chunks: AsyncIterator[bytes]) -> StoredDataset:
        """Store a file, on disk when this returns. The same bytes again are the same data set.

        Raises InvalidRequestError for a chunk or a file that is too big, DatasetError for a file
        without one row of a known format, StorageFullError. Rows with mistakes are stored, so that
        their report can be read; no job takes them.
        """
        folder = self._volume.datasets / f"{UPLOAD_PREFIX}{secrets.token_hex(8)}"
        with _storage_errors():
            await asyncio.to_thread(folder.mkdir, parents=True)
        try:
            digest, size = await self._write(folder / "rows", chunks)
            report = await asyncio.to_thread(_check, folder / "rows", filename)
            record = StoredDataset(
                id=digest,
                filename=_plain(filename),
                size_bytes=size,
                created_at=time.time(),
                report=report,
            )
            return await asyncio.to_thread(self._keep, folder, record)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _write(self, path: Path, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with _storage_errors(), path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if len(chunk) > MAX_CHUNK_BYTES:
                    raise InvalidRequestError(
                        f"A chunk has {len(chunk)} bytes.", f"Send at most {MAX_CHUNK_BYTES}."
                    )
                if size > self._max_bytes:
                    raise InvalidRequestError(
                        f"The file is bigger than {self._max_bytes} bytes.",
                        "Split it, or train on a part of it.",
                    )
                await asyncio.to_thread(_append, file, chunk, digest)
            await asyncio.to_thread(_persist, file)
        return digest.hexdigest(), size

    def _keep(self, folder: Path, record: StoredDataset) -> StoredDataset:
        final = self._volume.dataset(record.id)
        with _storage_errors():
            with (folder / _RECORD_NAME).open("wb") as file:
                file.write(record.model_dump_json(indent=2).encode() + b"\n")
                _persist(file)
            _fsync_folder(folder)
            try:
                folder.rename(final)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # The same bytes were there before, or arrived twice at once.
                return _read(final)
            _fsync_folder(final.parent)
        return record

    async def get(self, dataset_id: str) -> StoredDataset:
        """Raises DatasetNotFoundError; InvalidRequestError for what is no id."""
        return await asyncio.to_thread(_read, self._volume.dataset(dataset_id))

    async def read(self, dataset_id: str) -> AsyncGenerator[bytes]:
        """The bytes that were uploaded, in chunks. Raises DatasetNotFoundError."""
        path = self._volume.dataset_rows(dataset_id)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise _not_found(dataset_id) from None
        with file:
            while chunk := await asyncio.to_thread(file.read, MAX_CHUNK_BYTES):
                yield chunk

    async def list_page(self, size: int, token: str = "") -> DatasetPage:
        """Data sets newest first. A token stays good while data sets come and go.

        Raises InvalidRequestError for a token that this did not give.
        """
        after = _parse_token(token) if token else None
        return await asyncio.to_thread(self._list, size, after)

    def _list(self, size: int, after: tuple[float, str] | None) -> DatasetPage:
        found = sorted(((-one.created_at, one.id), one) for one in self._all())
        rest = [one for key, one in found if after is None or key > after]
        page = rest[:size]
        more = len(rest) > size
        return DatasetPage(tuple(page), f"{page[-1].created_at!r}-{page[-1].id}" if more else "")

    def _all(self) -> Iterator[StoredDataset]:
        folder = self._volume.datasets
        for path in folder.iterdir() if folder.is_dir() else ():
            if not path.name.startswith("."):
                try:
                    yield _read(path)
                except DatasetNotFoundError:  # removed meanwhile
                    continue

    async def delete(self, dataset_id: str) -> None:
        """Remove it. Raises DatasetNotFoundError. That no job needs it is the caller's to see to."""
        folder = self._volume.dataset(dataset_id)
        await asyncio.to_thread(_read, folder)
        await asyncio.to_thread(discard, folder)


def _check(rows: Path, filename: str) -> Report:
    with rows.open("rb") as stream:
        report = check_structure(stream)
    if not report.format:
        # Nothing in it is a row of any kind: not a data set with mistakes, but no data set.
        first = "; ".join(str(problem) for problem in report.problems[:1])
        raise DatasetError(
            f"{_plain(filename) or 'The file'} holds no row of a known format: {first}",
            "Rows are a JSON array or JSONL, with instruction and output, prompt and completion, or"
            " messages.",
        )
    return report


def _read(folder: Path) -> StoredDataset:
    try:
        return StoredDataset.model_validate_json((folder / _RECORD_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(folder.name) from None


def _not_found(dataset_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(f"There is no data set {dataset_id}.", "Upload the file again.")


def _parse_token(token: str) -> tuple[float, str]:
    created_at, _, dataset_id = token.rpartition("-")
    try:
        return -float(created_at), check_dataset_id(dataset_id)
    except (ValueError, InvalidRequestError):
        raise InvalidRequestError(
            f"{token!r:.80} is not a page token.", "Use the one of the page before, or none."
        ) from None


def _plain(filename: str) -> str:
    """The last part of a client's path, printable."""
    name = PurePath(filename.replace("\\", "/")).name
    return "".join(character for character in name if character.isprintable())[:_LONGEST_FILENAME]


def _append(file: BinaryIO, chunk: bytes, digest: hashlib._Hash) -> None:
    file.write(chunk)
    digest.update(chunk)


def _persist(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            "No space is left on the volume for the data set.", "Delete jobs or data sets."
        ) from error
