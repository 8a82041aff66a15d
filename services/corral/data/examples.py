"""The examples of a run: each row of a data set as token ids with a label mask.

Knows nothing of batches, tensors or padding.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from corral.data.encoding import encode_rows
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import Encoded, TextTokenizer
from corral.errors import DatasetError


@dataclass(frozen=True)
class TokenizedExample:
    """One row; `ids` and `trained` are equally long, at most the run's max_length."""

    # 32 bits each.
    ids: array[int]
    # 1 where the token is trained on, else 0.
    trained: bytes

    @property
    def label_count(self) -> int:
        """Labels: tokens that are trained on. The first token has nothing that predicts it."""
        return self.trained.count(1, 1)


def tokenize(
    stream: BinaryIO, template: PromptTemplate, tokenizer: TextTokenizer, max_length: int
) -> Iterator[TokenizedExample]:
    """All rows of a file in order, each cut to `max_length` tokens.

    Raises DatasetError for a row that can't be trained on: a job's rows were checked before.
    """
    for row in encode_rows(stream, template, tokenizer):
        if row.encoded is None:
            raise DatasetError(f"The data set can't be trained on: {row.problems[0]}")
        example = cut(row.encoded, max_length)
        if not example.label_count:
            where = f"line {row.raw.line} (row {row.raw.index})"
            raise DatasetError(f"{where}: max_length {max_length} cuts its answer away.")
        yield example


def cut(encoded: Encoded, max_length: int) -> TokenizedExample:
    """The first `max_length` tokens of a row."""
    ids, trained = encoded.ids[:max_length], encoded.trained[:max_length]
    return TokenizedExample(array("I", ids), bytes(trained))


def held_out_rows(count: int, eval_split: float, seed: int) -> list[int]:
    """Which of `count` rows are held out for evaluation, ascending.

    The same for the same count and seed. Of a share above 0 at least one is held out, and at least
    one is trained on.
    """
    held = min(max(1, round(count * eval_split)), count - 1) if eval_split > 0 else 0
    # Not for secrets: the same seed has to give the same split.
    return sorted(random.Random(seed).sample(range(count), held))  # noqa: S311
