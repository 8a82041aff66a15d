"""The data set that a command is about: an uploaded one, named by its id, or a file that is sent now.

Knows nothing of what is done with it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli import output
from corral.errors import DatasetError, DatasetNotFoundError, InvalidRequestError
from corral.names import DATASET_ID_PATTERN

if TYPE_CHECKING:
    from corral.client.connection import Connection
    from corral.v1 import trainer_pb2

SHORTEST_ID = 8
_BEGINS_AS_ID = re.compile(rf"^[0-9a-f]{{{SHORTEST_ID},64}}$")

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Alpaca JSON, JSONL, prompt/completion or messages; or an uploaded data set's id.",
    ),
]


def dataset_of(client: Connection, file: Path) -> trainer_pb2.Dataset:
    """The data set of a file, which is sent, or of an id, which may be cut short.

    Raises DatasetError where it is neither, or can't be read.
    """
    if file.exists() or not _BEGINS_AS_ID.match(str(file)):
        return _upload(client, file)
    return client.get_dataset(whole_id(client, str(file)))


def whole_id(client: Connection, given: str) -> str:
    """The id that is given whole, or by its first digits.

    Raises InvalidRequestError, or DatasetNotFoundError where no data set's id begins so.
    """
    if DATASET_ID_PATTERN.match(given):
        return given
    if len(given) < SHORTEST_ID:
        raise InvalidRequestError(
            f"{given!r} is too short for a data set's id.",
            f"Give {SHORTEST_ID} or more of the digits that corral data list shows.",
        )
    ids = [dataset.id for dataset in client.list_datasets(sys.maxsize)]
    matching = [whole for whole in ids if whole.startswith(given)]
    if not matching:
        raise DatasetNotFoundError(f"There is no data set {given}.", "corral data list shows them.")
    if len(matching) > 1:
        raise InvalidRequestError(
            f"{len(matching)} data sets begin with {given}: {', '.join(matching[:5])}.",
            "Give more digits.",
        )
    return matching[0]


def _upload(client: Connection, file: Path) -> trainer_pb2.Dataset:
    """Send a file, with a bar on a terminal."""
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "does not exist"
        raise DatasetError(f"{file} {kind}.", "Name a JSON or JSONL file.")
    if not output.is_live():
        return client.upload_dataset(file)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("Uploading"), BarColumn(bar_width=24), DownloadColumn(binary_units=True))
    with Progress(*columns, console=output.stderr_console(), transient=True) as bar:
        task = bar.add_task("", total=file.stat().st_size)
        return client.upload_dataset(file, lambda done, _: bar.update(task, completed=done))
