"""What an answer is made of: pieces of text, then a finish. Plain values; knows nothing of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why an answer ended: the end token or a stop string; max_tokens or the context's end; it only
    repeated itself; nobody wanted it any more.
    """

    STOP = "stop"
    LENGTH = "length"
    LOOP = "loop"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Likelihood:
    """How likely a token was, in nats, before temperature, penalties and biases; `top` holds the
    likeliest tokens of its place with theirs, likeliest first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Some text of the answer, whole characters, and the likelihoods of the tokens since the piece
    before where they are asked for. One of the two is never empty.
    """

    text: str
    likelihoods: tuple[Likelihood, ...] = ()


@dataclass(frozen=True)
class Finish:
    """The last thing of every answer. The end token counts as one of `completion_tokens`;
    `cached_tokens` of the prompt did not have to be read.
    """

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
