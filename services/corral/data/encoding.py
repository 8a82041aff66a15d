"""The rows of a file as labelled tokens, a batch at a time: what checking and training share.

Knows nothing of lengths that fit or of what is done with rows that can't be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from corral.data.conversation import Conversation
from corral.data.problems import Problem
from corral.data.raw_rows import RawRow
from corral.data.reading import read_rows
from corral.data.rows import parse_row
from corral.data.segments import Segment
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import Encoded, TextTokenizer
from corral.errors import TemplateError

# Enough for the tokenizer's threads, and a bound on what is held.
_BATCH_ROWS = 256


@dataclass(frozen=True)
class EncodedRow:
    """A row with all that was found; `encoded` is None where the row can't be used."""

    raw: RawRow
    conversation: Conversation | None
    problems: tuple[Problem, ...]
    encoded: Encoded | None = None


def encode_rows(
    stream: BinaryIO, template: PromptTemplate, tokenizer: TextTokenizer
) -> Iterator[EncodedRow]:
    """Read, render and tokenize every row of a file, in order."""
    rows = read_rows(stream)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield from _encode_batch(batch, template, tokenizer)


def _encode_batch(
    batch: Iterable[RawRow], template: PromptTemplate, tokenizer: TextTokenizer
) -> Iterator[EncodedRow]:
    rendered = [_render(raw, template) for raw in batch]
    encoded = iter(tokenizer.encode_many([segments for _, segments in rendered if segments]))
    for row, segments in rendered:
        if not segments:
            yield row
        else:
            yield EncodedRow(row.raw, row.conversation, row.problems, next(encoded))


def _render(raw: RawRow, template: PromptTemplate) -> tuple[EncodedRow, list[Segment]]:
    conversation, problems = parse_row(raw)
    segments: list[Segment] = []
    if conversation is not None:
        try:
            segments = template.render_training(conversation)
        except TemplateError as error:
            problems.append(Problem(raw.index, raw.line, "", "template", error.message))
    return EncodedRow(raw, conversation, tuple(problems)), segments
