"""Charts in the colours of the theme, as options of ECharts.

A key that begins with a colon is an expression that the browser evaluates when it draws: so a chart
takes the colours of light or dark. Knows nothing of where values come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

Point = tuple[float, float]
# Small numbers as 8e-5, others with three digits.
_SHORT = (
    "value => value && Math.abs(value) < 1e-3 ? value.toExponential(0) : +(+value).toPrecision(3)"
)
_FEW = 40
_FONT = "system-ui, 'Segoe UI', Roboto, sans-serif"


def colour(variable: str) -> str:
    """An expression for a colour of the style sheet."""
    return f"getComputedStyle(document.body).getPropertyValue('--{variable}').trim()"


@dataclass(frozen=True)
class Series:
    """A line with its name and its colour's name in the style sheet."""

    name: str
    colour: str
    points: Sequence[Point] = ()


def line_chart(label: str, series: Sequence[Series], digits: int = 3) -> ui.echart:
    """Lines over optimizer steps."""
    chart = ui.echart(line_options(series, digits)).classes("chart")
    chart.props("role=img").props["aria-label"] = label
    return chart


def line_options(series: Sequence[Series], digits: int) -> dict[str, Any]:
    """What ECharts needs to draw the lines."""
    rounded = f"value => value == null ? '–' : (+value).toPrecision({digits})"
    return {
        "animation": False,
        "textStyle": {"fontFamily": _FONT},
        "grid": {
            "left": 8,
            "right": 16,
            "top": 36 if len(series) > 1 else 16,
            "bottom": 4,
            "containLabel": True,
        },
        "legend": {
            "show": len(series) > 1,
            "left": 4,
            "top": 0,
            "itemWidth": 14,
            "itemHeight": 8,
            "icon": "roundRect",
            "textStyle": {":color": colour("muted")},
        },
        "tooltip": {
            "trigger": "axis",
            ":backgroundColor": colour("surface"),
            ":borderColor": colour("line"),
            "textStyle": {":color": colour("ink")},
            ":valueFormatter": rounded,
            "confine": True,
        },
        "xAxis": {
            "type": "value",
            "min": "dataMin",
            "max": "dataMax",
            "minInterval": 1,
            "splitNumber": 5,
            "axisLine": {"lineStyle": {":color": colour("line-strong")}},
            "axisLabel": {":color": colour("muted"), "hideOverlap": True},
            "splitLine": {"show": False},
            "axisPointer": {"label": {"show": False}},
        },
        "yAxis": _value_axis(),
        "series": [_line(one) for one in series],
    }


def _value_axis() -> dict[str, Any]:
    return {
        "type": "value",
        "scale": True,
        "splitNumber": 4,
        "axisLabel": {":color": colour("muted"), ":formatter": _SHORT},
        "splitLine": {"lineStyle": {":color": colour("line")}},
    }


def _line(one: Series) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": "line",
        "data": [list(point) for point in one.points],
        "showSymbol": len(one.points) == 1,
        "symbolSize": 7,
        "symbol": "circle",
        "connectNulls": True,
        "lineStyle": {"width": 2, ":color": colour(one.colour)},
        "itemStyle": {":color": colour(one.colour)},
        "emphasis": {"disabled": True},
        "markLine": {
            "silent": True,
            "symbol": "none",
            "animation": False,
            "label": {"show": False},
            "lineStyle": {":color": colour("line-strong"), "type": "dotted"},
            "data": [],
        },
    }


def set_points(chart: ui.echart, number: int, points: Sequence[Point]) -> None:
    """Other points for one of the lines; drawn with the chart's next update."""
    line = chart.options["series"][number]
    line["data"] = [list(point) for point in points]
    # A single value is no line; of evaluations, each is shown while they are few.
    line["showSymbol"] = len(points) < _FEW if number else len(points) == 1


def set_marks(chart: ui.echart, steps: Sequence[float]) -> None:
    """Vertical lines at these steps."""
    chart.options["series"][0]["markLine"]["data"] = [{"xAxis": step} for step in steps]


def histogram(label: str, bins: Sequence[tuple[str, int, bool]], x_name: str) -> ui.echart:
    """Bars of (range, rows, whether its rows are cut)."""
    options = {
        "animation": False,
        "textStyle": {"fontFamily": _FONT},
        "grid": {"left": 8, "right": 16, "top": 16, "bottom": 24, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            "axisPointer": {"type": "shadow"},
            "confine": True,
            ":backgroundColor": colour("surface"),
            ":borderColor": colour("line"),
            "textStyle": {":color": colour("ink")},
        },
        "xAxis": {
            "type": "category",
            "data": [name for name, _, _ in bins],
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 28,
            "nameTextStyle": {":color": colour("muted")},
            "axisTick": {"show": False},
            "axisLine": {"lineStyle": {":color": colour("line-strong")}},
            "axisLabel": {":color": colour("muted"), "hideOverlap": True},
        },
        "yAxis": {**_value_axis(), "scale": False, "minInterval": 1},
        "series": [
            {
                "name": "rows",
                "type": "bar",
                "barCategoryGap": "12%",
                "data": [
                    {
                        "value": rows,
                        "itemStyle": {
                            ":color": colour("third" if cut else "accent"),
                            "borderRadius": [3, 3, 0, 0],
                        },
                    }
                    for _, rows, cut in bins
                ],
            }
        ],
    }
    chart = ui.echart(options).classes("chart")
    chart.props("role=img").props["aria-label"] = label
    return chart


def as_shares(chart: ui.echart) -> None:
    """Show the values, from 0 to 1, as percent."""
    axis = chart.options["yAxis"]
    axis |= {"min": 0, "max": 1, "interval": 0.25, "scale": False}
    axis["axisLabel"][":formatter"] = "value => Math.round(100 * value) + ' %'"
    chart.options["tooltip"][":valueFormatter"] = (
        "value => value == null ? '–' : Math.round(100 * value) + ' %'"
    )
    chart.update()
