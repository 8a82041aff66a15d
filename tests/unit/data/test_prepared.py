"""Examples on disk: what was written is read, and nothing that is damaged or half."""

from __future__ import annotations

import os
import shutil
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data_builders import gpt2_like, jsonl

from corral.data.checking import check_for_training
from corral.data.examples import TokenizedExample, tokenize
from corral.data.prepared import FILES, Examples, ExamplesWriter, prepared_folder
from corral.data.preparing import check_and_prepare, prepare_examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.errors import DatasetError

ALPACA = PromptTemplate.alpaca("P.")
MAX_LENGTH = 64
ROWS = [{"instruction": f"Question {n}?", "output": "Answer. " * (n % 9 + 1)} for n in range(600)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FittedTokenizer:
    return fit_tokenizer(gpt2_like(tmp_path_factory.mktemp("base")), ALPACA)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path, *ROWS)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: FittedTokenizer) -> Path:
    return prepared_folder(tmp_path, ALPACA.sha256, tokenizer.sha256, MAX_LENGTH)


def write_rows(folder: Path, *rows: object) -> Path:
    path = folder / "rows"
    path.write_bytes(jsonl(*rows).getvalue())
    return path


def prepare(rows: Path, folder: Path, tokenizer: FittedTokenizer) -> Examples:
    for _ in prepare_examples(rows, folder, ALPACA, tokenizer, MAX_LENGTH):
        pass
    examples = Examples.open(folder)
    assert examples is not None
    return examples


def write(folder: Path, examples: list[TokenizedExample], vocabulary: int = 300) -> Examples:
    with ExamplesWriter(folder, vocabulary) as writer:
        for example in examples:
            writer.add(example)
        writer.commit()
    opened = Examples.open(folder)
    assert opened is not None
    return opened


EXAMPLE = st.lists(st.tuples(st.integers(0, 2**17 - 1), st.booleans()), min_size=1, max_size=9).map(
    lambda tokens: TokenizedExample(array("I", [t for t, _ in tokens]), bytes(b for _, b in tokens))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(examples=st.lists(EXAMPLE, min_size=1, max_size=9))
def test_what_was_written_is_read(tmp_path: Path, examples: list[TokenizedExample]) -> None:
    shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
    opened = write(tmp_path / "prepared", examples, 2**17)
    assert list(opened) == examples
    assert list(opened.lengths) == [len(example.ids) for example in examples]
    assert list(opened.labels) == [example.label_count for example in examples]


def test_small_vocabularies_take_two_bytes_a_token(tmp_path: Path) -> None:
    example = TokenizedExample(array("I", [65535, 1]), b"\0\1")
    assert write(tmp_path / "small", [example], 2**16).tokens.itemsize == 2
    assert write(tmp_path / "large", [example], 2**16 + 1).tokens.itemsize == 4


def test_a_selection_reads_its_own_rows(tmp_path: Path) -> None:
    examples = [TokenizedExample(array("I", [n, n + 1]), b"\0\1") for n in range(5)]
    opened = write(tmp_path / "prepared", examples)
    assert list(opened.select([4, 0])) == [examples[4], examples[0]]
    assert list(opened.select([4, 0, 2])[1:]) == [examples[0], examples[2]]
    assert opened[-1] == examples[4]
    with pytest.raises(IndexError):
        opened.select([1])[1]


def test_prepared_rows_are_the_tokenized_ones_in_the_files_order(
    rows: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    expected = list(tokenize(jsonl(*ROWS), ALPACA, tokenizer, MAX_LENGTH))
    assert list(prepare(rows, folder, tokenizer)) == expected


def test_progress_is_told_and_ends_with_all_rows(
    rows: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    told = list(prepare_examples(rows, folder, ALPACA, tokenizer, MAX_LENGTH))
    assert len(told) > 1
    assert told == sorted(told, key=lambda progress: progress.rows)
    assert (told[-1].rows, told[-1].share) == (600, 1.0)


def test_what_is_there_is_not_made_again(
    rows: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    prepare(rows, folder, tokenizer)
    assert list(prepare_examples(rows, folder, ALPACA, tokenizer, MAX_LENGTH)) == []


@pytest.mark.parametrize("name", [*FILES, "index.json"])
@pytest.mark.parametrize("damage", ["gone", "short", "changed"])
def test_a_damaged_folder_is_made_anew(
    rows: Path, folder: Path, tokenizer: FittedTokenizer, name: str, damage: str
) -> None:
    whole = list(prepare(rows, folder, tokenizer))
    path = folder / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes(content[: len(content) // 2] if damage == "short" else flipped)
    assert Examples.open(folder) is None
    assert list(prepare(rows, folder, tokenizer)) == whole


def test_another_template_tokenizer_or_length_is_another_folder(tmp_path: Path) -> None:
    folders = {
        prepared_folder(tmp_path, template, tokenizer, length)
        for template in "ab"
        for tokenizer in "cd"
        for length in (1, 2)
    }
    assert len(folders) == 8


def test_nothing_is_left_of_a_file_that_cannot_be_trained_on(
    tmp_path: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    rows = write_rows(tmp_path, *ROWS, {"instruction": "Q"})
    with pytest.raises(DatasetError, match="output"):
        prepare(rows, folder, tokenizer)
    assert list(tmp_path.iterdir()) == [rows]


def test_checking_keeps_what_it_tokenized(
    rows: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    report = check_and_prepare(rows, folder, ALPACA, tokenizer, MAX_LENGTH)
    assert report == check_for_training(jsonl(*ROWS), ALPACA, tokenizer, MAX_LENGTH)
    examples = Examples.open(folder)
    assert examples is not None
    assert list(examples) == list(tokenize(jsonl(*ROWS), ALPACA, tokenizer, MAX_LENGTH))


def test_checking_keeps_nothing_of_a_file_with_mistakes(
    tmp_path: Path, folder: Path, tokenizer: FittedTokenizer
) -> None:
    rows = write_rows(tmp_path, *ROWS, {"instruction": "Q"})
    assert not check_and_prepare(rows, folder, ALPACA, tokenizer, MAX_LENGTH).ok
    assert list(tmp_path.iterdir()) == [rows]


def test_only_what_was_used_last_is_kept(tmp_path: Path) -> None:
    example = TokenizedExample(array("I", [1, 2]), b"\0\1")
    for number in range(6):
        write(tmp_path / f"prepared-{number}", [example])
        os.utime(tmp_path / f"prepared-{number}" / "index.json", (number, number))
    Examples.open(tmp_path / "prepared-2")
    write(tmp_path / "prepared-6", [example])
    kept = {"prepared-2", "prepared-4", "prepared-5", "prepared-6"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_what_a_killed_process_left_is_removed_and_what_grows_is_not(tmp_path: Path) -> None:
    for name, age in (("left", 0), ("growing", None)):
        file = tmp_path / f".preparing-{name}" / "tokens.bin"
        file.parent.mkdir()
        file.touch()
        if age is not None:
            os.utime(file, (age, age))
    write(tmp_path / "prepared-1", [TokenizedExample(array("I", [1, 2]), b"\0\1")])
    assert {path.name for path in tmp_path.iterdir()} == {".preparing-growing", "prepared-1"}


def test_who_comes_second_with_the_same_leaves_the_first(tmp_path: Path) -> None:
    example = TokenizedExample(array("I", [1, 2]), b"\0\1")
    with ExamplesWriter(tmp_path / "prepared-1", 10) as slow:
        slow.add(example)
        first = write(tmp_path / "prepared-1", [example])
        slow.commit()
    assert list(first) == [example]
    assert [path.name for path in tmp_path.iterdir()] == ["prepared-1"]
