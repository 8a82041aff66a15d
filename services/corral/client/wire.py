"""What every client of Corral agrees on with the servers: sizes, end states, addresses, names.

Knows nothing of channels or of how a call is made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corral.v1 import trainer_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

# The most that a server takes in one message of an upload.
CHUNK_BYTES = 1024 * 1024
PAGE_SIZE = 200
# How long a call that only asks whether a server is there may take.
PROBE_SECONDS = 5.0

END_STATES = (
    trainer_pb2.JOB_STATE_SUCCEEDED,
    trainer_pb2.JOB_STATE_FAILED,
    trainer_pb2.JOB_STATE_CANCELLED,
)


def reachable_from(inference: str, trainer: str) -> str:
    """The inference address as the trainer's client reaches it: ":port" is on the trainer's host."""
    if not inference.startswith(":"):
        return inference
    host = "127.0.0.1" if trainer.startswith("unix:") else trainer.rpartition(":")[0]
    return f"{host}{inference}"


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """The value's name without the prefix that buf's style asks for; its number when unknown."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return str(value.name).removeprefix(prefix)
