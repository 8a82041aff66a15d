"""Rows as labelled ids, and the split into training and evaluation."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from tests.data_builders import gpt2_like, jsonl

from corral.data.examples import TokenizedExample, load_examples, split_examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.errors import DatasetError

ALPACA = PromptTemplate.alpaca("P.")


@pytest.fixture
def tokenizer(tmp_path: Path) -> FittedTokenizer:
    return fit_tokenizer(gpt2_like(tmp_path / "base"), ALPACA)


def write(folder: Path, *rows: object) -> Path:
    path = folder / "rows"
    path.write_bytes(jsonl(*rows).getvalue())
    return path


def numbered(count: int) -> list[TokenizedExample]:
    return [TokenizedExample(array("I", [n]), b"\x01") for n in range(count)]


def test_examples_are_ids_and_labels(tokenizer: FittedTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path, {"instruction": "Q", "output": "Answer"})
    (example,) = load_examples(path, ALPACA, tokenizer, 1000)
    labels = [i for i, trained in zip(example.ids, example.trained, strict=True) if trained]
    assert tokenizer.decode(labels, skip_special=False) == "Answer<|endoftext|>"


def test_examples_keep_the_files_order(tokenizer: FittedTokenizer, tmp_path: Path) -> None:
    rows = [{"instruction": "Q", "output": f"{n}"} for n in range(600)]
    examples = load_examples(write(tmp_path, *rows), ALPACA, tokenizer, 1000)
    answers = [
        tokenizer.decode([i for i, t in zip(e.ids, e.trained, strict=True) if t]) for e in examples
    ]
    assert answers == [row["output"] for row in rows]


def test_long_examples_are_cut(tokenizer: FittedTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path, {"instruction": "Q", "output": "Answer " * 100})
    (example,) = load_examples(path, ALPACA, tokenizer, 64)
    assert len(example.ids) == len(example.trained) == 64


@pytest.mark.parametrize(
    "rows", [[], [{"instruction": "Q"}], [{"instruction": "Q " * 200, "output": "A"}]]
)
def test_rows_that_were_never_checked_are_refused(
    rows: list[object], tokenizer: FittedTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError):
        load_examples(write(tmp_path, *rows), ALPACA, tokenizer, 64)


def test_a_split_is_the_same_for_the_same_seed() -> None:
    examples = numbered(100)
    train, held_out = split_examples(examples, 0.1, 7)
    assert (train, held_out) == split_examples(examples, 0.1, 7)
    assert held_out != split_examples(examples, 0.1, 8)[1]
    assert len(held_out) == 10
    assert sorted(e.ids[0] for e in (*train, *held_out)) == list(range(100))


def test_a_split_leaves_something_on_both_sides() -> None:
    assert [len(part) for part in split_examples(numbered(3), 0.01, 1)] == [2, 1]
    assert [len(part) for part in split_examples(numbered(3), 0.99, 1)] == [1, 2]
    assert [len(part) for part in split_examples(numbered(3), 0.0, 1)] == [3, 0]
    assert [len(part) for part in split_examples(numbered(1), 0.5, 1)] == [1, 0]
