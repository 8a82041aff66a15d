"""Makes the tokenized examples of a data set, unless they are there already, and tells how far it is.

Knows nothing of processes: that only one of them prepares is the caller's to see to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.data.checking import check_for_training
from corral.data.examples import tokenize
from corral.data.prepared import Examples, ExamplesWriter
from corral.data.report import Report
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.errors import DatasetError
from corral.storage import storage_errors

_ROWS_BETWEEN = 256


@dataclass(frozen=True)
class PreparingProgress:
    """Rows done, and the share of the file that they were: how many rows there are is known last."""

    rows: int
    share: float


def check_and_prepare(
    rows: Path, folder: Path, template: PromptTemplate, tokenizer: TextTokenizer, max_length: int
) -> Report:
    """Check a file for training, and keep what it was tokenized to where the report is ok.

    Raises StorageFullError.
    """
    with (
        storage_errors("the tokenized data set"),
        rows.open("rb") as stream,
        ExamplesWriter(folder, tokenizer.vocab_size) as writer,
    ):
        report = check_for_training(stream, template, tokenizer, max_length, writer.add)
        if report.ok:
            writer.commit()
    return report


def prepare_examples(
    rows: Path, folder: Path, template: PromptTemplate, tokenizer: TextTokenizer, max_length: int
) -> Iterator[PreparingProgress]:
    """Tokenize a file into `folder`, see `corral.data.prepared`, telling the progress as it goes.

    Tells nothing where a whole folder is there already; one that is damaged is made anew. Raises
    DatasetError for a row that can't be trained on, StorageFullError.
    """
    if Examples.open(folder) is not None:
        return
    size, done = rows.stat().st_size, 0
    with (
        storage_errors("the tokenized data set"),
        rows.open("rb") as stream,
        ExamplesWriter(folder, tokenizer.vocab_size) as writer,
    ):
        for done, example in enumerate(tokenize(stream, template, tokenizer, max_length), 1):
            writer.add(example)
            if done % _ROWS_BETWEEN == 0:
                yield PreparingProgress(done, min(1.0, stream.tell() / size))
        if not done:
            raise DatasetError("The data set has no rows.")
        writer.commit()
    yield PreparingProgress(done, 1.0)
