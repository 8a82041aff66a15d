"""Every error that a user can cause, and the one place that maps it to a status.

An error has a code (stable, for programs), a message (what was wrong and where) and a hint
(what to do next). Its `Kind` decides the gRPC status, the HTTP status and the exit code.

Knows nothing of grpc or HTTP libraries: statuses are plain names and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


@dataclass(frozen=True)
class Mapping:
    """How a kind of error leaves a process."""

    grpc_status: str
    http_status: int
    exit_code: int


class Kind(Enum):
    """What sort of trouble it is, and with it who has to act."""

    INVALID = Mapping("INVALID_ARGUMENT", 400, 2)
    NOT_FOUND = Mapping("NOT_FOUND", 404, 3)
    CONFLICT = Mapping("FAILED_PRECONDITION", 409, 4)
    EXHAUSTED = Mapping("RESOURCE_EXHAUSTED", 429, 5)
    UNAVAILABLE = Mapping("UNAVAILABLE", 503, 6)
    TIMEOUT = Mapping("DEADLINE_EXCEEDED", 504, 7)
    INTERNAL = Mapping("INTERNAL", 500, 1)


class CorralError(Exception):
    """The root of the tree.

    `message` says what was wrong and where; `hint` says what to do next, or is empty.
    """

    code: ClassVar[str] = "INTERNAL"
    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


# ---------------------------------------------------------------- what a user asked for is wrong


class InvalidRequestError(CorralError):
    """A request that no server could carry out."""

    code = "INVALID_REQUEST"
    kind = Kind.INVALID


class SpecError(CorralError):
    """A training spec with an unknown field or an impossible value."""

    code = "SPEC_INVALID"
    kind = Kind.INVALID


class DatasetError(CorralError):
    """A file that cannot be trained on as it is."""

    code = "DATASET_INVALID"
    kind = Kind.INVALID


class TemplateError(CorralError):
    """A prompt template that is unknown, does not render, or does not fit the tokenizer."""

    code = "TEMPLATE_INVALID"
    kind = Kind.INVALID


class ModelUnsupportedError(CorralError):
    """A model folder that is incomplete, or of an architecture that is not on the list."""

    code = "MODEL_UNSUPPORTED"
    kind = Kind.INVALID


class PromptTooLongError(CorralError):
    """A prompt that leaves no room for an answer in the model's context."""

    code = "PROMPT_TOO_LONG"
    kind = Kind.INVALID


class JobTooLargeError(CorralError):
    """A run that the memory of its device can't hold."""

    code = "JOB_TOO_LARGE"
    kind = Kind.INVALID


class TrainingDivergedError(CorralError):
    """A loss or a gradient that is not a finite number."""

    code = "TRAINING_DIVERGED"
    kind = Kind.INVALID


# ---------------------------------------------------------------- what it names is not there


class DatasetNotFoundError(CorralError):
    """No data set of that id."""

    code = "DATASET_NOT_FOUND"
    kind = Kind.NOT_FOUND


class JobNotFoundError(CorralError):
    """No job of that id."""

    code = "JOB_NOT_FOUND"
    kind = Kind.NOT_FOUND


class ModelNotFoundError(CorralError):
    """No base model and no published checkpoint of that name."""

    code = "MODEL_NOT_FOUND"
    kind = Kind.NOT_FOUND


# ---------------------------------------------------------------- it can't be done in this state


class ConflictError(CorralError):
    """The thing exists, but its state does not allow this."""

    code = "CONFLICT"
    kind = Kind.CONFLICT


class AlreadyRunningError(ConflictError):
    """Another Corral already works on the same data folder."""

    code = "ALREADY_RUNNING"


class FencedError(ConflictError):
    """A write about a job by an attempt that no longer holds its lease."""

    code = "FENCED"


class BackendRefusedError(CorralError):
    """A backend that turns this deployment away: credentials, rights or a quota."""

    code = "BACKEND_REFUSED"
    kind = Kind.CONFLICT


# ---------------------------------------------------------------- the machine, not the user


class BusyError(CorralError):
    """A queue or a budget is full for now."""

    code = "BUSY"
    kind = Kind.EXHAUSTED


class BudgetReachedError(CorralError):
    """A run that has cost as much as it may. Its checkpoints stay, and can be used."""

    code = "BUDGET_REACHED"
    kind = Kind.EXHAUSTED


class StorageFullError(CorralError):
    """No space is left on the volume."""

    code = "STORAGE_FULL"
    kind = Kind.EXHAUSTED


class OutOfMemoryError(CorralError):
    """A run that needs more memory than the machine or the GPU has."""

    code = "OUT_OF_MEMORY"
    kind = Kind.EXHAUSTED


class UnavailableError(CorralError):
    """A server, Redis or the model hub does not answer."""

    code = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE


class HubUnavailableError(UnavailableError):
    """The model hub does not answer; asking again soon would not help."""

    code = "HUB_UNAVAILABLE"


class DeadlineError(CorralError):
    """An answer did not come within the call's deadline."""

    code = "DEADLINE_EXCEEDED"
    kind = Kind.TIMEOUT


class CheckpointCorruptError(CorralError):
    """A checkpoint whose files do not match its manifest."""

    code = "CHECKPOINT_CORRUPT"


class StorageFailedError(CorralError):
    """A disk or a network share that answers reads or writes with errors."""

    code = "STORAGE_FAILED"


class LaunchError(CorralError):
    """A run that could not be started."""

    code = "LAUNCH_FAILED"


class TrainingCrashedError(CorralError):
    """A run that ended without saying why: killed, out of memory, or a bug."""

    code = "TRAINING_CRASHED"


def all_errors() -> dict[str, type[CorralError]]:
    """Each code with its class, for reading an error back from the wire.

    Only those of this module: what another room makes of them never travels by its own code.
    """

    def tree(cls: type[CorralError]) -> list[type[CorralError]]:
        own = [child for child in cls.__subclasses__() if child.__module__ == __name__]
        return [cls, *(found for child in own for found in tree(child))]

    return {cls.code: cls for cls in reversed(tree(CorralError))}
