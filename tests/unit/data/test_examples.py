"""Rows as labelled ids, and which of them are held out."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from tests.data_builders import gpt2_like, jsonl

from corral.data.examples import TokenizedExample, held_out_rows, tokenize
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.errors import DatasetError

ALPACA = PromptTemplate.alpaca("P.")


@pytest.fixture
def tokenizer(tmp_path: Path) -> FittedTokenizer:
    return fit_tokenizer(gpt2_like(tmp_path / "base"), ALPACA)


def test_examples_are_ids_and_labels(tokenizer: FittedTokenizer) -> None:
    rows = jsonl({"instruction": "Q", "output": "Answer"})
    (example,) = tokenize(rows, ALPACA, tokenizer, 1000)
    labels = [i for i, trained in zip(example.ids, example.trained, strict=True) if trained]
    assert tokenizer.decode(labels, skip_special=False) == "Answer<|endoftext|>"


def test_the_first_token_counts_as_no_label() -> None:
    assert TokenizedExample(array("I", [1, 2, 3]), b"\1\0\1").label_count == 1


def test_examples_keep_the_files_order(tokenizer: FittedTokenizer) -> None:
    rows = [{"instruction": "Q", "output": f"{n}"} for n in range(600)]
    answers = [
        tokenizer.decode([i for i, t in zip(e.ids, e.trained, strict=True) if t])
        for e in tokenize(jsonl(*rows), ALPACA, tokenizer, 1000)
    ]
    assert answers == [row["output"] for row in rows]


def test_long_examples_are_cut(tokenizer: FittedTokenizer) -> None:
    rows = jsonl({"instruction": "Q", "output": "Answer " * 100})
    (example,) = tokenize(rows, ALPACA, tokenizer, 64)
    assert len(example.ids) == len(example.trained) == 64


@pytest.mark.parametrize("row", [{"instruction": "Q"}, {"instruction": "Q " * 200, "output": "A"}])
def test_rows_that_were_never_checked_are_refused(row: object, tokenizer: FittedTokenizer) -> None:
    with pytest.raises(DatasetError, match="line 1"):
        list(tokenize(jsonl(row), ALPACA, tokenizer, 64))


def test_held_out_rows_are_the_same_for_the_same_seed() -> None:
    held_out = held_out_rows(100, 0.1, 7)
    assert held_out == held_out_rows(100, 0.1, 7) == sorted(set(held_out))
    assert held_out != held_out_rows(100, 0.1, 8)
    assert len(held_out) == 10


@pytest.mark.parametrize(
    ("count", "share", "held"), [(3, 0.01, 1), (3, 0.99, 2), (3, 0.0, 0), (1, 0.5, 0)]
)
def test_something_is_left_to_train_on_and_to_hold_out(count: int, share: float, held: int) -> None:
    assert len(held_out_rows(count, share, 1)) == held
