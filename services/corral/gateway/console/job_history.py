"""What a job's events add up to: lines over its steps, its answers, its log. Of bounded size, however
long the job runs.

Values only. Knows nothing of charts or of where events come from.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from corral.gateway.console import words
from corral.v1 import trainer_pb2

MOST_POINTS = 600
MOST_LINES = 1000
MOST_EVALUATIONS = 60

Point = tuple[float, float]


@dataclass
class Line:
    """Values over steps. Once there are too many, every second one goes; the newest always stays."""

    points: list[Point] = field(default_factory=list)
    _stride: int = 1
    _seen: int = 0

    def add(self, step: int, value: float) -> None:
        """A value; steps that it overtakes were taken by an attempt that had to go back."""
        while self.points and self.points[-1][0] >= step:
            self.points.pop()
        # The newest may only be there because it was the newest.
        if self._seen % self._stride and self.points:
            self.points.pop()
        self.points.append((step, value))
        self._seen += 1
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self._stride *= 2


@dataclass
class History:
    """All that the page shows of a job's events."""

    loss: Line = field(default_factory=Line)
    eval_loss: Line = field(default_factory=Line)
    learning_rate: Line = field(default_factory=Line)
    speed: Line = field(default_factory=Line)
    stop_rate: Line = field(default_factory=Line)
    repetition_rate: Line = field(default_factory=Line)
    evaluations: dict[int, trainer_pb2.Evaluation] = field(default_factory=dict)
    checkpoints: dict[int, trainer_pb2.Checkpoint] = field(default_factory=dict)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    # Of the newest event; a watch that was interrupted goes on behind it.
    number: int = 0
    state: int = trainer_pb2.JOB_STATE_UNSPECIFIED
    progress: trainer_pb2.Progress = field(default_factory=trainer_pb2.Progress)

    def add(self, event: trainer_pb2.TrainingEvent) -> str:
        """Take an event in; returns its kind."""
        kind = event.WhichOneof("kind") or ""
        self.number = event.number
        if kind == "metrics":
            self._add_metrics(event.metrics)
        elif kind == "evaluation":
            self._add_evaluation(event.evaluation)
        elif kind == "checkpoint":
            self.checkpoints[event.checkpoint.step] = event.checkpoint
        elif kind == "log_line":
            self.log.append(event.log_line.text)
        elif kind == "state_change":
            self.state = event.state_change.state
            name, _ = words.state(self.state)
            reason = event.state_change.reason
            self.log.append(f"— {name}{': ' + reason if reason else ''}")
        return kind

    def _add_metrics(self, metrics: trainer_pb2.Metrics) -> None:
        self.progress = metrics.progress
        step = metrics.progress.step
        self.loss.add(step, metrics.progress.loss)
        self.learning_rate.add(step, metrics.learning_rate)
        self.speed.add(step, metrics.progress.tokens_per_second)

    def _add_evaluation(self, evaluation: trainer_pb2.Evaluation) -> None:
        step = evaluation.step
        self.evaluations[step] = evaluation
        while len(self.evaluations) > MOST_EVALUATIONS:
            del self.evaluations[min(self.evaluations)]
        if evaluation.HasField("eval_loss"):
            self.eval_loss.add(step, evaluation.eval_loss)
        if evaluation.HasField("stop_rate"):
            self.stop_rate.add(step, evaluation.stop_rate)
        if evaluation.HasField("repetition_rate"):
            self.repetition_rate.add(step, evaluation.repetition_rate)

    def answers(self) -> dict[str, list[tuple[int, trainer_pb2.SampleAnswer]]]:
        """Each question with its answers by step, oldest first."""
        found: dict[str, list[tuple[int, trainer_pb2.SampleAnswer]]] = {}
        for step in sorted(self.evaluations):
            for sample in self.evaluations[step].samples:
                found.setdefault(sample.prompt, []).append((step, sample))
        return found
