"""A piece of a rendered conversation: what passes from a template to a tokenizer.

Knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Text that is encoded on its own, so that its tokens are the same in training and in chat."""

    text: str
    # Its tokens, and the end token that follows it, are labels.
    trained: bool
    # The text is the template's and may name special tokens. All other text is encoded as plain
    # characters, so that nobody's "<|im_end|>" can forge a turn.
    special: bool = False
    # An answer ends in the end token even where it is not trained: it is context in the same form.
    answer: bool = False
    # The end token of this answer; None is the tokenizer's own.
    end: str | None = None


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """The segments without empty ones, neighbours of one kind made one; answers stay apart."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if not segment.text and not segment.trained and not segment.answer:
            continue
        if (
            last is None
            or _is_answer(last)
            or _is_answer(segment)
            or last.special != segment.special
        ):
            result.append(segment)
        else:
            result[-1] = Segment(last.text + segment.text, trained=False, special=last.special)
    return result


def _is_answer(segment: Segment) -> bool:
    return segment.trained or segment.answer
