"""Shows a job's events as they come: as corral.cli.live_view on a terminal, as plain lines elsewhere.

Everything goes to stderr. Knows nothing of where events come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from corral import formatting
from corral.cli import output
from corral.cli.evaluation_output import evaluation_lines
from corral.client.wire import enum_name
from corral.v1 import trainer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

# So many lines of metrics, at most, does a run print where no bar can move.
PLAIN_LINES = 100


class View(Protocol):
    """Where a watched job is shown."""

    def line(self, text: str) -> None:
        """Something that happened once."""

    def metrics(self, metrics: trainer_pb2.Metrics) -> None:
        """The figures of the newest optimizer step."""

    def evaluation(self, evaluation: trainer_pb2.Evaluation) -> None:
        """What the model was worth after a step."""


def follow(
    events: Iterable[trainer_pb2.TrainingEvent], view: View, *, with_log: bool = False
) -> trainer_pb2.StateChange | None:
    """Show events until they end; returns the last change of state among them."""
    last = None
    for event in events:
        kind = event.WhichOneof("kind")
        if kind == "metrics":
            view.metrics(event.metrics)
        elif kind == "evaluation":
            view.evaluation(event.evaluation)
        elif kind == "checkpoint":
            view.line(_checkpoint(event.checkpoint))
        elif kind == "state_change":
            last = event.state_change
            view.line(_state(last, event.attempt))
        elif event.log_line.is_notice:
            view.line(event.log_line.text)
        elif with_log:
            view.line(f"  | {event.log_line.text}")
    return last


@contextmanager
def best_view() -> Iterator[View]:
    """A moving view where stderr is a terminal, else plain lines."""
    if not output.is_live():
        yield PlainView(output.say)
        return
    from corral.cli.live_view import live_view

    with live_view() as view:
        yield view


def state_name(state: int) -> str:
    """`RUNNING` for JOB_STATE_RUNNING."""
    return enum_name(trainer_pb2.JobState.DESCRIPTOR, state)


def metrics_line(metrics: trainer_pb2.Metrics) -> str:
    """One optimizer step in one line."""
    progress = metrics.progress
    cost = (f"${progress.cost:.4f}",) if progress.HasField("cost") else ()
    return "  ".join(
        (
            f"step {progress.step}/{progress.total_steps}",
            f"epoch {progress.epoch:.2f}",
            f"loss {progress.loss:.4f}",
            f"lr {metrics.learning_rate:.2e}",
            formatting.rate(progress.tokens_per_second),
            f"{formatting.duration(seconds_left(progress))} left",
            *cost,
        )
    )


class PlainView:
    """Lines only: about PLAIN_LINES of metrics a run, whatever its length, its last step among them."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def line(self, text: str) -> None:
        self._write(text)

    def metrics(self, metrics: trainer_pb2.Metrics) -> None:
        step, total = metrics.progress.step, metrics.progress.total_steps
        every = max(1, total // PLAIN_LINES)
        if step == 1 or step == total or step % every == 0:
            self._write(metrics_line(metrics))

    def evaluation(self, evaluation: trainer_pb2.Evaluation) -> None:
        for text in evaluation_lines(evaluation):
            self._write(text)


def seconds_left(progress: trainer_pb2.Progress) -> float:
    """Until the last step, as the run reckons it."""
    return progress.time_left.ToNanoseconds() / 1e9


def _state(change: trainer_pb2.StateChange, attempt: int) -> str:
    again = f" (attempt {attempt})" if attempt > 1 else ""
    reason = f": {change.reason}" if change.reason else ""
    return f"{state_name(change.state)}{again}{reason}"


def _checkpoint(checkpoint: trainer_pb2.Checkpoint) -> str:
    return (
        f"checkpoint of step {checkpoint.step}, {formatting.size(checkpoint.size_bytes)}: "
        f"{checkpoint.model}"
    )
