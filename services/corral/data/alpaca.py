"""The alpaca template: a preamble, then blocks headed "### Instruction:", "### Input:", "### Response:".

The texts are Stanford Alpaca's (https://github.com/tatsu-lab/stanford_alpaca, train.py). They are
values, not code, so that a checkpoint carries those it was trained with. Knows nothing of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from corral.data.conversation import Message
from corral.data.segments import Segment, joined
from corral.errors import TemplateError


@dataclass(frozen=True)
class AlpacaTexts:
    """Every text of the template. Headings carry the line breaks around them."""

    preamble: str = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
    )
    preamble_with_input: str = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request."
    )
    instruction: str = "\n\n### Instruction:\n"
    input: str = "\n\n### Input:\n"
    response: str = "\n\n### Response:"

    @classmethod
    def with_preamble(cls, preamble: str | None) -> Self:
        """The user's preamble in place of both of Alpaca's, or Alpaca's own for None."""
        return cls() if preamble is None else cls(preamble, preamble)

    def segments(self, messages: tuple[Message, ...]) -> list[Segment]:
        """A conversation up to its last answer.

        A system message is a paragraph behind the preamble; further turns repeat the blocks.
        Raises TemplateError for a system message anywhere else.
        """
        system = messages[0].content if messages[0].role == "system" else None
        turns = messages[1:] if system is not None else messages
        segments = [Segment(self._opening(system, turns[0]), trained=False)]
        for message in turns:
            if message.role == "system":
                raise TemplateError("The alpaca template takes a system message only at the start.")
            if message.role == "user":
                segments.append(Segment(self._question(message), trained=False))
            else:
                segments.append(Segment(message.content, message.trained, answer=True))
        last_answer = max(at for at, segment in enumerate(segments) if segment.answer)
        return joined(segments[: last_answer + 1])

    def _opening(self, system: str | None, first: Message) -> str:
        preamble = self.preamble_with_input if first.input else self.preamble
        return preamble if system is None else f"{preamble}\n\n{system}"

    def _question(self, message: Message) -> str:
        further = f"{self.input}{message.input}" if message.input else ""
        return f"{self.instruction}{message.content}{further}{self.response}"
