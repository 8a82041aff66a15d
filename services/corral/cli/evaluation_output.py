"""An evaluation in words: what the model was worth after a step, and how it answered.

Knows nothing of how events are fetched or shown.
"""

from __future__ import annotations

from textwrap import shorten

from corral import formatting
from corral.v1 import trainer_pb2

# Characters of a question and of an answer, so that a sample stays a line or two.
_QUESTION_SHOWN = 60
_ANSWER_SHOWN = 120


def evaluation_lines(evaluation: trainer_pb2.Evaluation) -> list[str]:
    """A line of figures, then one for each sample answer."""
    seconds = evaluation.took.ToNanoseconds() / 1e9
    best = ", the best so far" if evaluation.is_best else ""
    figures = figures_of(evaluation)
    if evaluation.HasField("perplexity"):
        figures.insert(1, f"perplexity {evaluation.perplexity:.2f}")
    head = f"evaluation after step {evaluation.step} (took {formatting.duration(seconds)}{best})"
    return [
        f"{head}: {', '.join(figures) or 'nothing to measure'}",
        *map(_sample, evaluation.samples),
    ]


def figures_of(
    measured: trainer_pb2.Evaluation | trainer_pb2.Progress | trainer_pb2.Checkpoint,
) -> list[str]:
    """The figures of an evaluation that are there, in words."""
    found: list[str] = []
    if measured.HasField("eval_loss"):
        found.append(f"eval loss {measured.eval_loss:.4f}")
    if measured.HasField("stop_rate"):
        found.append(f"{measured.stop_rate:.0%} stop by themselves")
        found.append(f"{measured.repetition_rate:.0%} repetition")
    if not isinstance(measured, trainer_pb2.Checkpoint) and measured.HasField("answer_tokens"):
        found.append(f"{measured.answer_tokens:.0f} tokens an answer")
    return found


def _sample(sample: trainer_pb2.SampleAnswer) -> str:
    question = shorten(sample.prompt, _QUESTION_SHOWN, placeholder=" …")
    answer = shorten(sample.answer, _ANSWER_SHOWN, placeholder=" …") or "(nothing)"
    ending = "" if sample.stopped else " (loops)" if sample.looping else " (cut)"
    return f"  {question} -> {answer}{ending}"
