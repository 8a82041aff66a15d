"""What an answer is made of: pieces of text, then a finish. Plain values; knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why an answer ended: the end token or a stop string; or max_tokens or the context's end."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Piece:
    """Some text of the answer, whole characters, never empty."""

    text: str


@dataclass(frozen=True)
class Finish:
    """The last thing of every answer. The end token counts as one of `completion_tokens`."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
