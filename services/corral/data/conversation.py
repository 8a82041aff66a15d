"""A conversation: the one shape that every row format is read into and every template renders.

Knows nothing of files, templates or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    # The further context of a user's instruction (Alpaca's "input").
    input: str = ""
    # False for an answer that is context only (OpenAI's "weight": 0).
    trained: bool = True

    @property
    def text(self) -> str:
        """Content and input together, for templates that know no input."""
        return f"{self.content}\n\n{self.input}" if self.input else self.content


@dataclass(frozen=True)
class Conversation:
    """Turns in order; ends with an assistant's in training data, with a user's in chat."""

    messages: tuple[Message, ...]
