"""Some rows of a file as questions with their answers: for evaluations and comparisons.

Knows nothing of templates or tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from corral.data.conversation import Message
from corral.data.reading import read_rows
from corral.data.rows import parse_row


@dataclass(frozen=True)
class AnsweredQuestion:
    """A conversation up to a user's last message, and the answer that the row gives to it."""

    asked: tuple[Message, ...]
    answer: str


def read_questions(stream: BinaryIO, rows: Sequence[int]) -> Iterator[AnsweredQuestion]:
    """Those rows of a file, numbers ascending; reads no further than the last of them.

    A row that can't be used, or does not end in a question and its answer, is passed over.
    """
    wanted = set(rows)
    for raw in read_rows(stream) if wanted else ():
        if raw.index in wanted:
            conversation, _ = parse_row(raw)
            messages = conversation.messages if conversation else ()
            if [message.role for message in messages[-2:]] == ["user", "assistant"]:
                yield AnsweredQuestion(messages[:-1], messages[-1].content)
        if raw.index >= rows[-1]:
            return
