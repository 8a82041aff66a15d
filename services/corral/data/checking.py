"""Checks every row of a data set, and reports all that it found, not just the first.

At upload the structure alone; before a job also what the template and the tokenizer make of it.
Holds a hash and a length for each row, never the rows. Knows nothing of where the file lies.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import BinaryIO

from corral.data.conversation import Conversation
from corral.data.encoding import EncodedRow, encode_rows
from corral.data.examples import TokenizedExample, cut
from corral.data.problems import Problem
from corral.data.raw_rows import RawRow
from corral.data.reading import read_rows
from corral.data.report import MAX_PROBLEMS, ExamplePiece, RenderedExample, Report, TokenStats
from corral.data.rows import parse_row, row_format
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import Encoded, TextTokenizer

__all__ = ["ExamplePiece", "RenderedExample", "Report", "TokenStats"]
__all__ += ["check_for_training", "check_structure"]

_EXAMPLES = 3


def check_structure(stream: BinaryIO) -> Report:
    """Check everything that needs no tokenizer."""
    tally = _Tally()
    for raw in read_rows(stream):
        conversation, problems = parse_row(raw)
        tally.add(raw, conversation, problems)
    return tally.report()


def check_for_training(
    stream: BinaryIO,
    template: PromptTemplate,
    tokenizer: TextTokenizer,
    max_length: int,
    keep: Callable[[TokenizedExample], None] | None = None,
) -> Report:
    """Check also how the rows render, and how many tokens they become.

    A row of which no trained token is left within `max_length` tokens is an error, one whose answer
    is cut a warning. `keep` is given each row as the example that a run would make of it.
    """
    tally = _Tally()
    counts = _TokenCounts(max_length)
    examples: list[RenderedExample] = []
    for row in encode_rows(stream, template, tokenizer):
        problems = list(row.problems)
        if row.encoded is not None:
            problems += _cut_problems(row, row.encoded, max_length)
            counts.add(row.encoded)
            if keep is not None:
                keep(cut(row.encoded, max_length))
            if len(examples) < _EXAMPLES and not any(p.severity == "error" for p in problems):
                examples.append(_example(row.raw, row.encoded, tokenizer, max_length))
        tally.add(row.raw, row.conversation, problems)
    return tally.report().model_copy(update={"tokens": counts.stats(), "examples": tuple(examples)})


# ---------------------------------------------------------------- tokens


def _cut_problems(row: EncodedRow, encoded: Encoded, max_length: int) -> list[Problem]:
    length = len(encoded.ids)
    if length <= max_length:
        return []
    raw = row.raw
    if not any(encoded.trained[:max_length]):
        message = (
            f"nothing of its answer is left: the prompt alone fills max_length {max_length:,}, "
            f"the row has {length:,} tokens."
        )
        return [Problem(raw.index, raw.line, "", "cut_away", message)]
    message = f"its end is cut off: {length:,} tokens, max_length is {max_length:,}."
    return [Problem(raw.index, raw.line, "", "cut", message, severity="warning")]


class _TokenCounts:
    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._lengths = array("L")
        self._trained = 0

    def add(self, encoded: Encoded) -> None:
        self._lengths.append(len(encoded.ids))
        self._trained += sum(encoded.trained[: self._max_length])

    def stats(self) -> TokenStats | None:
        if not self._lengths:
            return None
        ordered = sorted(self._lengths)
        total = sum(ordered)
        return TokenStats(
            mean=total / len(ordered),
            p50=_percentile(ordered, 50),
            p90=_percentile(ordered, 90),
            max=ordered[-1],
            total=total,
            trained=self._trained,
            too_long=sum(length > self._max_length for length in ordered),
            max_length=self._max_length,
            histogram=tuple(sorted(Counter(ordered).items())),
        )


def _percentile(ordered: list[int], percent: int) -> int:
    """The smallest value that so many percent of all do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _example(
    raw: RawRow, encoded: Encoded, tokenizer: TextTokenizer, max_length: int
) -> RenderedExample:
    pairs = zip(encoded.ids[:max_length], encoded.trained[:max_length], strict=True)
    runs = [(trained, [i for i, _ in run]) for trained, run in groupby(pairs, key=lambda p: p[1])]
    pieces = tuple(
        ExamplePiece(text=tokenizer.decode(ids, skip_special=False), trained=trained)
        for trained, ids in runs
    )
    return RenderedExample(row=raw.index, line=raw.line, pieces=pieces)


# ---------------------------------------------------------------- counting


class _Tally:
    """Counts rows and problems, and keeps the first of them."""

    def __init__(self) -> None:
        self._rows = 0
        self._usable = 0
        self._formats: set[str] = set()
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []
        self._error_count = 0
        self._warning_count = 0
        self._first_rows: dict[bytes, int] = {}
        self._unknown_keys: set[str] = set()

    def add(
        self, raw: RawRow, conversation: Conversation | None, problems: Iterable[Problem]
    ) -> None:
        found = [*problems, *self._duplicates(raw, conversation)]
        self._rows += raw.is_row
        self._usable += raw.is_row and not any(problem.severity == "error" for problem in found)
        self._formats.add(row_format(raw.value) or "")
        for problem in found:
            self._keep(problem)

    def _duplicates(self, raw: RawRow, conversation: Conversation | None) -> list[Problem]:
        if conversation is None:
            return []
        first = self._first_rows.setdefault(_digest(conversation), raw.index)
        if first == raw.index:
            return []
        message = f"is the same as row {first}."
        return [Problem(raw.index, raw.line, "", "duplicate", message, severity="warning")]

    def _keep(self, problem: Problem) -> None:
        if problem.severity == "error":
            self._error_count += 1
            kept = self._errors
        else:
            self._warning_count += 1
            kept = self._warnings
            if problem.code == "unknown_key":
                # Every row has the same ones: said once, they hide nothing else.
                if problem.field in self._unknown_keys:
                    return
                self._unknown_keys.add(problem.field)
        if len(kept) < MAX_PROBLEMS:
            kept.append(problem)

    def report(self) -> Report:
        if not self._rows and not self._error_count:
            message = "there is not one row in the file."
            self._keep(Problem(0, 1, "", "no_rows", message))
        room = MAX_PROBLEMS - len(self._errors)
        kept = sorted([*self._errors, *self._warnings[:room]], key=lambda problem: problem.row)
        formats = self._formats - {""}
        return Report(
            rows=self._rows,
            usable_rows=self._usable,
            format="mixed" if len(formats) > 1 else next(iter(formats), ""),
            problems=tuple(kept),
            problem_count=self._error_count + self._warning_count,
            error_count=self._error_count,
        )


def _digest(conversation: Conversation) -> bytes:
    turns = [(m.role, m.content, m.input, m.trained) for m in conversation.messages]
    return hashlib.blake2b(json.dumps(turns).encode(), digest_size=16).digest()
