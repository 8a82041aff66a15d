"""The two files through which the service half and the training half meet.

`run.json` says what to train; `events.jsonl` says how it goes, one JSON object a line, and its last
line says how it ended. torchrun swallows its children's exit codes, so that line, not the exit
code, is what every launcher's caller reads; the codes below are for a run started by hand.

Knows nothing of tensors, processes or Redis.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from corral.spec import TrainingSpec

# What a training process exits with; 1 is Python's own for a crash, 75 sysexits.h's "temporary failure, try again".
EXIT_DONE = 0
EXIT_REFUSED = 2
EXIT_STOPPED = 75


class _Frozen(BaseModel):
    # Without "constants", a loss that is no number would be written as null and not be read again.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class TrainingRun(_Frozen):
    """One attempt at a job. Paths are found from the volume, see `Volume.of_run_file`."""

    format: Literal[1] = 1
    job_id: str
    attempt: int
    dataset_id: str
    spec: TrainingSpec
    # Name of a checkpoint's folder below checkpoints/<job>/ to go on from.
    resume_from: str | None = None

    def write(self, run_file: Path) -> None:
        """Write run.json whole or not at all."""
        run_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = run_file.with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        temporary.replace(run_file)

    @classmethod
    def read(cls, run_file: Path) -> TrainingRun:
        """Read run.json. Raises OSError, or pydantic's ValidationError on foreign content."""
        return cls.model_validate_json(run_file.read_bytes())


# ---------------------------------------------------------------- events


class Started(_Frozen):
    """The model is loaded and the first step is about to begin."""

    kind: Literal["started"] = "started"
    time: float
    world_size: int
    device: str
    precision: str
    parameters: int
    examples: int
    total_steps: int
    learning_rate: float
    effective_batch_size: int
    resumed_step: int = 0


class StepDone(_Frozen):
    """One optimizer step."""

    kind: Literal["step"] = "step"
    time: float
    step: int
    total_steps: int
    epoch: float
    # Mean over all label tokens of the step, in nats.
    loss: float
    learning_rate: float
    # Before clipping.
    gradient_norm: float
    tokens_per_second: float
    # Seconds, at the pace so far.
    time_left: float
    eval_loss: float | None = None


class CheckpointWritten(_Frozen):
    """A complete checkpoint lies in checkpoints/<job>/<folder>."""

    kind: Literal["checkpoint"] = "checkpoint"
    time: float
    step: int
    folder: str


class Ended(_Frozen):
    """How the run ended; always the last line."""

    kind: Literal["ended"] = "ended"
    time: float
    # done: the last step is saved. stopped: asked to stop, and saved. failed: code and message.
    outcome: Literal["done", "stopped", "failed"]
    code: str = ""
    message: str = ""


RunEvent = Started | StepDone | CheckpointWritten | Ended
_EVENT: TypeAdapter[RunEvent] = TypeAdapter(Annotated[RunEvent, Field(discriminator="kind")])


class EventWriter:
    """Appends events to events.jsonl, each flushed so that a reader sees whole lines at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: RunEvent) -> None:
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()
        if isinstance(event, (CheckpointWritten, Ended)):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class LineTail:
    """Reads the lines that were added to a growing text file since the last call.

    The file may not exist yet. A line without its newline is left for later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self, limit: int = 1000) -> list[str]:
        """At most `limit` whole lines, without their newlines."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                lines: list[str] = []
                for line in file:
                    if not line.endswith(b"\n") or len(lines) == limit:
                        break
                    self._offset += len(line)
                    lines.append(line.decode("utf-8", errors="replace").rstrip("\r\n"))
                return lines
        except FileNotFoundError:
            return []


def parse_events(lines: list[str]) -> Iterator[RunEvent]:
    """The events in some lines of events.jsonl; a line that is none (a torn write before a crash)
    is skipped, since what follows it still counts.
    """
    for line in lines:
        try:
            yield _EVENT.validate_json(line)
        except ValidationError:
            continue


def now() -> float:
    """Seconds since the epoch, as events carry them."""
    return time.time()
