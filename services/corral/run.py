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
    # Seconds that it may take to save and end once it is asked to; None: as the launcher has it.
    stop_seconds: float | None = None

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


class Preparing(_Frozen):
    """The data set is being tokenized. `total_rows` and `time_left` (seconds) are estimates."""

    kind: Literal["preparing"] = "preparing"
    time: float
    rows: int
    total_rows: int
    time_left: float


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
    # The last evaluation's figures, see EvaluationDone.
    eval_loss: float | None = None
    stop_rate: float | None = None
    repetition_rate: float | None = None
    answer_tokens: float | None = None


class SampleAnswer(_Frozen):
    """A greedy answer of the model as it trains."""

    prompt: str
    answer: str
    # The end token included.
    tokens: int
    stopped: bool
    # As corral.text_measures has them.
    repetition: float
    looping: bool


class EvaluationDone(_Frozen):
    """What the model is worth after a step. A figure is None where there was nothing to measure:
    no held-out rows, or no questions.
    """

    kind: Literal["evaluation"] = "evaluation"
    time: float
    step: int
    # On the held-out rows, nats per label token, and its exponential.
    eval_loss: float | None = None
    perplexity: float | None = None
    # Of the answers: the share that stopped by themselves, the mean share of repeated 4-grams, the
    # share that ends in a loop, the mean length in tokens.
    stop_rate: float | None = None
    repetition_rate: float | None = None
    looping_rate: float | None = None
    answer_tokens: float | None = None
    samples: tuple[SampleAnswer, ...] = ()
    # What it cost, in seconds; no step's tokens_per_second counts them.
    evaluation_seconds: float
    # The best so far, in what the spec's best_by names.
    is_best: bool = False


class CheckpointWritten(_Frozen):
    """A complete checkpoint lies in checkpoints/<job>/<folder>."""

    kind: Literal["checkpoint"] = "checkpoint"
    time: float
    step: int
    folder: str
    # How long writing it took, and how long of that the training stood still.
    seconds: float = 0.0
    stall_seconds: float = 0.0


class Ended(_Frozen):
    """How the run ended; always the last line."""

    kind: Literal["ended"] = "ended"
    time: float
    # done: the last step is saved. stopped: asked to stop, and saved. failed: code and message.
    outcome: Literal["done", "stopped", "failed"]
    code: str = ""
    # Why, in a sentence; for a run that is done, why it ended before its last step.
    message: str = ""


RunEvent = Preparing | Started | StepDone | EvaluationDone | CheckpointWritten | Ended
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

    def skip_to_end(self) -> None:
        """Leave out what the file holds now, a half line at its end not."""
        while self.new_lines():
            pass

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
