"""A run's losses as a chart of characters: the training loss as a curve, evaluations as points on it.

Knows nothing of where figures come from or of how often the chart is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

# More do not show in a terminal, and drawing them takes time.
MOST_POINTS = 1000
# Below these a chart says less than a sparkline.
NARROWEST = 40
LOWEST = 18
_WIDEST = 100

Points: TypeAlias = list[tuple[int, float]]


@dataclass
class LossHistory:
    """Losses by step, so far. A run that goes on from a checkpoint takes back what came after it."""

    losses: Points = field(default_factory=list)
    evaluations: Points = field(default_factory=list)

    def add_loss(self, step: int, loss: float) -> None:
        self._take_back(self.losses, step)
        self._take_back(self.evaluations, step)
        if math.isfinite(loss):
            self.losses.append((step, loss))
        if len(self.losses) > 2 * MOST_POINTS:
            self.losses = _halved(self.losses)

    def add_evaluation(self, step: int, loss: float) -> None:
        if math.isfinite(loss):
            self.evaluations.append((step, loss))

    @staticmethod
    def _take_back(points: Points, step: int) -> None:
        while points and points[-1][0] >= step:
            points.pop()


def chart_size(columns: int, lines: int) -> tuple[int, int] | None:
    """Width and height of a chart on a terminal of that size; None where there is no room for one."""
    if columns < NARROWEST or lines < LOWEST:
        return None
    return min(columns, _WIDEST), min(14, max(8, lines // 3))


def draw_chart(history: LossHistory, width: int, height: int) -> str:
    """Lines with colours as escape sequences; at least two losses are needed."""
    import plotext

    # Its size is ours to know: it would look for a terminal at stdout, which may be a file.
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, height)
    # A legend would cover the curve where it is steepest.
    figure.title("loss" + (", eval loss ●" if history.evaluations else ""))
    first, last = history.losses[0][0], history.losses[-1][0]
    ticks = _ticks(first, last, width)
    figure.ruler("x").ticks(ticks, [f"{tick:,}" for tick in ticks])
    _draw(history.losses, "braille", with_lines=True)
    if history.evaluations:
        _draw(history.evaluations, "●", with_lines=False)
    drawn: str = figure.build().string()
    return drawn.rstrip("\n")


def _draw(points: Points, marker: str, *, with_lines: bool) -> None:
    import plotext

    steps, losses = zip(*points, strict=True)
    signal = plotext.figure.signal(list(steps), list(losses), marker=marker)
    plotext.figure.draw(signal.lines() if with_lines else signal)


def _ticks(first: int, last: int, width: int) -> list[int]:
    """Whole steps, evenly apart, with room for their numbers."""
    count = min(max(2, width // 16), last - first + 1)
    return sorted({first + round(at * (last - first) / (count - 1)) for at in range(count)})


def _halved(points: Points) -> Points:
    """Each two neighbours as one, with their mean loss and the later's step."""
    pairs = zip(points[::2], points[1::2], strict=False)
    return [(later, (first + second) / 2) for (_, first), (later, second) in pairs]
