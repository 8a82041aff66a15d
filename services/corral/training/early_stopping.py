"""When further training is not worth it: the best evaluation so far, and how long ago it was.

Knows nothing of how an evaluation is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.judging import is_better
from corral.spec import EvalMetric, TrainingSpec


@dataclass(frozen=True)
class BestSoFar:
    """The best value of the spec's `best_by`, its step, and the evaluations since."""

    value: float | None = None
    step: int = 0
    waited: int = 0

    def after(self, metric: EvalMetric, value: float | None, step: int) -> BestSoFar:
        """With one more evaluation. An equal value is no improvement."""
        if is_better(metric, value, self.value):
            return BestSoFar(value, step)
        return BestSoFar(self.value, self.step, self.waited + 1)


def reason_to_stop(spec: TrainingSpec, best: BestSoFar) -> str:
    """Why the run ends before its last step, in a sentence; empty where it goes on."""
    if spec.early_stopping is None or best.waited < spec.early_stopping_patience:
        return ""
    metric = spec.early_stopping.replace("_", " ")
    times = "evaluation" if best.waited == 1 else f"{best.waited} evaluations"
    if best.value is None:
        return f"Stopped early: the {metric} was no number for {times}."
    return (
        f"Stopped early: the {metric} of step {best.step}, {best.value:.4g},"
        f" has not improved for {times}."
    )
