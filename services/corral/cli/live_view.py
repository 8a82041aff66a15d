"""A watched job on a terminal: its loss as a chart, a bar with the newest figures, lines above both.

Imports rich: import it where something is drawn. Knows nothing of where events come from.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from corral import formatting
from corral.cli import output
from corral.cli.evaluation_output import evaluation_lines
from corral.cli.loss_chart import LossHistory, chart_size, draw_chart
from corral.cli.watching import View, seconds_left
from corral.v1 import trainer_pb2

_BAR_WIDTH = 10
_RECENT_LOSSES = 24
# A chart is drawn anew at most so often: a replayed run has thousands of events a second.
_CHART_SECONDS = 0.25


@contextmanager
def live_view(console: Console | None = None) -> Iterator[View]:
    """A view that moves, until the end of the with statement; what it showed last stays."""
    history = LossHistory()
    with _ChartAndBar(history, console or output.stderr_console()) as bar:
        yield LiveView(bar, history)


class Chart:
    """The chart of a history, kept for a moment."""

    def __init__(
        self, history: LossHistory, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = history
        self._console = console
        self._now = now
        self._drawn: Text | None = None
        self._drawn_for: tuple[object, ...] = ()
        self._drawn_at = -_CHART_SECONDS

    @property
    def has_room(self) -> bool:
        """Whether the terminal is large enough for one."""
        return self._size() is not None

    def text(self) -> Text | None:
        """The chart, or None where there is nothing to draw yet or no room for it."""
        size, known = self._size(), self._history
        if size is None or len(known.losses) < 2:
            return None
        now = (size, known.losses[-1], len(known.evaluations))
        waited = self._now() - self._drawn_at
        if self._drawn is None or (now != self._drawn_for and waited >= _CHART_SECONDS):
            self._drawn = Text.from_ansi(draw_chart(known, *size))
            self._drawn_for, self._drawn_at = now, self._now()
        return self._drawn

    def refresh(self) -> None:
        """Draw it anew next time, however soon."""
        self._drawn = None

    def _size(self) -> tuple[int, int] | None:
        return chart_size(self._console.width, self._console.height)


class _ChartAndBar(Progress):
    def __init__(self, history: LossHistory, console: Console) -> None:
        # Before the rest: it asks for what to show already.
        self.chart = Chart(history, console)
        columns = (
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        super().__init__(*columns, console=console, transient=False, refresh_per_second=5)

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.finished:
            self.chart.refresh()
        chart = self.chart.text()
        if chart is not None:
            yield chart
        yield self.make_tasks_table(self.tasks)


class LiveView:
    """Lines scroll above the chart and the bar."""

    def __init__(self, bar: _ChartAndBar, history: LossHistory) -> None:
        self._bar = bar
        self._history = history
        self._task: TaskID | None = None

    def line(self, text: str) -> None:
        self._bar.print(output.printable(text, sys.stderr), markup=False)

    def evaluation(self, evaluation: trainer_pb2.Evaluation) -> None:
        if evaluation.HasField("eval_loss"):
            self._history.add_evaluation(evaluation.step, evaluation.eval_loss)
        for text in evaluation_lines(evaluation):
            self.line(text)

    def metrics(self, metrics: trainer_pb2.Metrics) -> None:
        progress = metrics.progress
        self._history.add_loss(progress.step, progress.loss)
        figures = self._figures(metrics)
        if self._task is None:
            self._task = self._bar.add_task(
                "", completed=progress.step, total=progress.total_steps, figures=figures
            )
        else:
            self._bar.update(
                self._task, completed=progress.step, total=progress.total_steps, figures=figures
            )

    def _figures(self, metrics: trainer_pb2.Metrics) -> str:
        """A narrow terminal cuts from the right."""
        progress = metrics.progress
        parts = [
            f"loss {progress.loss:.4f}",
            formatting.rate(progress.tokens_per_second),
            f"{formatting.duration(seconds_left(progress))} left",
            f"lr {metrics.learning_rate:.2e}",
        ]
        if progress.HasField("cost"):
            parts.insert(0, f"${progress.cost:.4f}")
        if not self._bar.chart.has_room:
            recent = [loss for _, loss in self._history.losses[-_RECENT_LOSSES:]]
            parts.append(formatting.sparkline(recent, _RECENT_LOSSES))
        return "  ".join(parts)
