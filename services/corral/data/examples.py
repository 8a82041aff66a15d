"""The examples of a run: each row of a data set as token ids with a label mask.

Knows nothing of batches, tensors or padding.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.data.encoding import encode_rows
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.errors import DatasetError


@dataclass(frozen=True)
class TokenizedExample:
    """One row; `ids` and `trained` are equally long, at most the run's max_length."""

    # 32 bits each.
    ids: array[int]
    # 1 where the token is a label, else 0.
    trained: bytes


def load_examples(
    path: Path, template: PromptTemplate, tokenizer: TextTokenizer, max_length: int
) -> list[TokenizedExample]:
    """All rows of a file, each cut to `max_length` tokens.

    Raises DatasetError for a row that can't be trained on: a job's rows were checked before.
    """
    examples: list[TokenizedExample] = []
    with path.open("rb") as stream:
        for row in encode_rows(stream, template, tokenizer):
            if row.encoded is None:
                raise DatasetError(f"{path}: {row.problems[0]}")
            trained = bytes(row.encoded.trained[:max_length])
            if not any(trained):
                where = f"line {row.raw.line} (row {row.raw.index})"
                raise DatasetError(
                    f"{path}: {where}: max_length {max_length} cuts its answer away."
                )
            examples.append(TokenizedExample(array("I", row.encoded.ids[:max_length]), trained))
    if not examples:
        raise DatasetError(f"{path} has no rows.")
    return examples


def split_examples(
    examples: Sequence[TokenizedExample], eval_split: float, seed: int
) -> tuple[list[TokenizedExample], list[TokenizedExample]]:
    """Examples to train on and examples to hold out, both in their old order.

    The same for the same number of examples and the same seed. Of a share above 0 at least one is
    held out, and at least one is trained on.
    """
    count = len(examples)
    held = min(max(1, round(count * eval_split)), count - 1) if eval_split > 0 else 0
    # Not for secrets: the same seed has to give the same split.
    chosen = set(random.Random(seed).sample(range(count), held))  # noqa: S311
    train = [example for at, example in enumerate(examples) if at not in chosen]
    return train, [examples[at] for at in sorted(chosen)]
