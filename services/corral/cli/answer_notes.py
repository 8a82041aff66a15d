"""How an answer went, in a line for the person who asked.

Knows nothing of where it is shown.
"""

from __future__ import annotations

from corral import formatting
from corral.cli.side_by_side import Answered
from corral.v1 import inference_pb2


def note_of(answer: Answered) -> str:
    """How an answer went."""
    if answer.error is not None:
        return f"error: {answer.error.message}"
    return "" if answer.finish is None else finish_line(answer.finish)


def finish_line(finish: inference_pb2.Finish) -> str:
    """How long an answer took, how fast it came, and what was out of the ordinary."""
    first = formatting.duration(finish.time_to_first_token.ToNanoseconds() / 1e9)
    parts = [
        formatting.duration(finish.total_time.ToNanoseconds() / 1e9),
        f"first token after {first}",
        f"prompt of {formatting.count(finish.prompt_tokens, 'token')}",
        formatting.count(finish.completion_tokens, "token"),
        formatting.rate(finish.tokens_per_second),
    ]
    if finish.dropped_turns:
        left_out = formatting.count(finish.dropped_turns, "oldest question")
        parts.append(f"{left_out} left out of the prompt")
    if finish.reason == inference_pb2.FINISH_REASON_LENGTH:
        parts.append("cut at its length limit")
    if finish.reason == inference_pb2.FINISH_REASON_LOOP:
        parts.append("it began to repeat itself: ended")
    return ", ".join(parts)
