"""Ids as OpenAI's clients see them. Nothing is kept: each is made from Corral's own and read back.

file-<sha256>                  a data set
job-…                          a job, by its own id
ftevent-<job>-<number>         an event
ftckpt-<job>-<step>            a checkpoint
"""

from __future__ import annotations

import secrets

from corral.errors import DatasetNotFoundError, InvalidRequestError
from corral.names import DATASET_ID_PATTERN

_FILE = "file-"
_EVENT = "ftevent-"
_CHECKPOINT = "ftckpt-"


def file_id(dataset_id: str) -> str:
    """The file that a data set is."""
    return f"{_FILE}{dataset_id}"


def dataset_id(file: str) -> str:
    """The data set of a file id. Raises DatasetNotFoundError for what was never one."""
    digest = file.removeprefix(_FILE)
    if not DATASET_ID_PATTERN.match(digest):
        raise DatasetNotFoundError(
            f"There is no file {file!r:.80}.", "client.files.list() shows all."
        )
    return digest


def event_id(job: str, number: int) -> str:
    """The id of an event of a job."""
    return f"{_EVENT}{job}-{number}"


def event_number(event: str, job: str) -> int:
    """The number of an event of a job. Raises InvalidRequestError for another id."""
    return _number(event, f"{_EVENT}{job}-")


def checkpoint_id(job: str, step: int) -> str:
    """The id of a checkpoint of a job."""
    return f"{_CHECKPOINT}{job}-{step}"


def checkpoint_step(checkpoint: str, job: str) -> int:
    """The step of a checkpoint of a job. Raises InvalidRequestError for another id."""
    return _number(checkpoint, f"{_CHECKPOINT}{job}-")


def new_id(prefix: str) -> str:
    """A fresh id: `chatcmpl-…`."""
    return f"{prefix}{secrets.token_hex(16)}"


def _number(text: str, prefix: str) -> int:
    digits = text.removeprefix(prefix)
    if digits == text or not (digits.isascii() and digits.isdecimal() and len(digits) < 16):
        raise InvalidRequestError(f"after: {text!r:.80} is not an id of this list.")
    return int(digits)
