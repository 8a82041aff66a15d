"""Answers to one prompt as JSON, for programs.

Knows nothing of where the prompt came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from corral.cli import output

if TYPE_CHECKING:
    from corral.cli.conversation import Chatter
    from corral.v1 import inference_pb2


def answer_as_json(
    chatter: Chatter,
    models: Sequence[str],
    messages: Sequence[inference_pb2.Message],
    sampling: inference_pb2.SamplingOptions,
) -> None:
    """Print an object with the answer and how it ended; of several models a list, in their order."""
    answers = [_answer(chatter, model, messages, sampling) for model in models]
    output.result_json(answers[0] if len(answers) == 1 else answers)


def _answer(
    chatter: Chatter,
    model: str,
    messages: Sequence[inference_pb2.Message],
    sampling: inference_pb2.SamplingOptions,
) -> dict[str, Any]:
    from corral.cli.plain import to_plain

    text, finish = "", {}
    for response in chatter.chat(model, messages, sampling):
        text += response.text
        if response.WhichOneof("event") == "finish":
            finish = to_plain(response.finish)
    return {"text": text, **finish}
