"""A data set and what checking it found, in words.

Knows nothing of how rows are checked, or of how data sets are fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral import formatting
from corral.cli import output
from corral.data.problems import Problem

if TYPE_CHECKING:
    from rich.text import Text

    from corral.data.report import RenderedExample, Report, TokenStats
    from corral.v1 import trainer_pb2

PROBLEMS_SHOWN = 20
# Of an id in a table: enough to tell data sets apart, and to name one by.
ID_SHOWN = 12


def show_report(file: str, report: Report) -> None:
    """Print a report, with the rows that it renders, on stdout."""
    output.result(output.fields(_summary(file, report)))
    if report.problems:
        output.result("")
    by_weight = sorted(report.problems, key=lambda problem: problem.severity != "error")
    for line in problem_lines(by_weight, report.problem_count):
        output.result(line)
    if report.examples:
        _show_examples(report.examples)


def problem_lines(
    problems: Sequence[Problem],
    count: int,
    limit: int = PROBLEMS_SHOWN,
    shows_more: str = "--json shows more",
) -> list[str]:
    """The first problems, a line each; where `count` is more, a last line says by how many."""
    lines = [f"{problem.severity}: {problem}" for problem in problems[:limit]]
    more = count - len(lines)
    if more > 0:
        lines.append(f"... and {formatting.count(more, 'more problem')} ({shows_more})")
    return lines


def problem_of(sent: trainer_pb2.RowProblem) -> Problem:
    """A problem as the server tells it, as checking found it."""
    is_warning = sent.severity == sent.SEVERITY_WARNING
    return Problem(
        row=sent.row,
        line=sent.line,
        field=sent.field,
        code=sent.code,
        message=sent.message,
        excerpt=sent.excerpt,
        severity="warning" if is_warning else "error",
    )


def dataset_table(datasets: Sequence[trainer_pb2.Dataset], now: float) -> str:
    """One line a data set. `now` is seconds since the epoch."""
    headers = ("data set", "file", "rows", "format", "size", "problems", "age")
    rows = [
        (
            dataset.id[:ID_SHOWN],
            dataset.filename,
            f"{dataset.report.rows:,}",
            dataset.format or "-",
            formatting.size(dataset.size_bytes),
            f"{dataset.report.problem_count:,}",
            _age(dataset, now),
        )
        for dataset in datasets
    ]
    return output.table(headers, rows)


def dataset_details(dataset: trainer_pb2.Dataset, now: float) -> str:
    """A data set with what is wrong with its rows, for a person."""
    report = dataset.report
    lines = output.fields(
        [
            ("data set", dataset.id),
            ("file", dataset.filename),
            ("size", formatting.size(dataset.size_bytes)),
            ("rows", _rows(report.rows, report.usable_rows)),
            ("format", dataset.format),
            ("problems", f"{report.problem_count:,}"),
            ("uploaded", f"{_age(dataset, now)} ago"),
        ]
    )
    problems = problem_lines([problem_of(sent) for sent in report.problems], report.problem_count)
    return "\n".join([lines, *(["", *problems] if problems else [])])


def _age(dataset: trainer_pb2.Dataset, now: float) -> str:
    return formatting.age(now - dataset.created_at.ToNanoseconds() / 1e9)


def _rows(rows: int, usable: int) -> str:
    return f"{rows:,}, {usable:,} usable"


def _summary(file: str, report: Report) -> list[tuple[str, str]]:
    warnings = report.problem_count - report.error_count
    return [
        ("file", file),
        ("rows", _rows(report.rows, report.usable_rows)),
        ("format", report.format),
        ("errors", f"{report.error_count:,}"),
        ("warnings", f"{warnings:,}"),
        *(_token_fields(report.tokens) if report.tokens else []),
    ]


def _token_fields(tokens: TokenStats) -> list[tuple[str, str]]:
    share = tokens.trained / tokens.total
    spread = f"mean {tokens.mean:,.1f}, p50 {tokens.p50:,}, p90 {tokens.p90:,}, max {tokens.max:,}"
    return [
        ("tokens", f"{tokens.total:,}, of which {tokens.trained:,} trained ({share:.0%})"),
        ("tokens a row", spread),
        ("too long", f"{tokens.too_long:,} of more than {tokens.max_length:,} tokens"),
    ]


def _show_examples(examples: tuple[RenderedExample, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, soft_wrap=True)
    how = "in green" if console.is_terminal else "between « and »"
    for example in examples:
        console.print()
        console.print(Text(f"line {example.line}, what is trained {how}:", style="bold"))
        console.print(_coloured(example, Text(), plain=not console.is_terminal))


def _coloured(example: RenderedExample, text: Text, *, plain: bool) -> Text:
    for piece in example.pieces:
        shown = output.printable(piece.text, sys.stdout)
        if plain and piece.trained:
            text.append(f"«{shown}»")
        else:
            text.append(shown, style="green" if piece.trained else "dim")
    return text
