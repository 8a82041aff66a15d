"""Which of two evaluations is the better one: for early stopping, and for the best checkpoint.

Knows nothing of how the figures are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

from corral.spec import EvalMetric

_HIGHER_IS_BETTER = frozenset({"stop_rate"})

_Measured = TypeVar("_Measured")


def is_better(metric: EvalMetric, value: float | None, than: float | None) -> bool:
    """Whether a value of the metric beats another; equal ones don't, None and NaN beat nothing."""
    if value is None or math.isnan(value):
        return False
    if than is None or math.isnan(than):
        return True
    return value > than if metric in _HIGHER_IS_BETTER else value < than


def best_of(measured: Iterable[_Measured], metric: EvalMetric) -> _Measured | None:
    """What has the best value under the metric's name, the first of equals; None if none has any."""
    best: _Measured | None = None
    for one in measured:
        if is_better(metric, getattr(one, metric), getattr(best, metric, None)):
            best = one
    return best
