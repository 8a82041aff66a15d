"""Between corral.v1's data set messages and the data sets of the volume.

Knows nothing of calls or files.
"""

from __future__ import annotations

from corral.data.problems import Problem
from corral.data.report import RenderedExample, Report, TokenStats
from corral.trainer.convert import timestamp
from corral.trainer.datasets import StoredDataset
from corral.v1 import trainer_pb2 as pb

_SEVERITIES = {
    "error": pb.RowProblem.SEVERITY_ERROR,
    "warning": pb.RowProblem.SEVERITY_WARNING,
}


def dataset_to_proto(dataset: StoredDataset) -> pb.Dataset:
    """A data set with what checking its rows found."""
    return pb.Dataset(
        id=dataset.id,
        filename=dataset.filename,
        size_bytes=dataset.size_bytes,
        format=dataset.report.format,
        report=report_to_proto(dataset.report),
        created_at=timestamp(dataset.created_at),
    )


def report_to_proto(report: Report) -> pb.DatasetReport:
    """Counts, and the first problems in file order."""
    return pb.DatasetReport(
        rows=report.rows,
        usable_rows=report.usable_rows,
        problems=map(problem_to_proto, report.problems),
        problem_count=report.problem_count,
    )


def problem_to_proto(problem: Problem) -> pb.RowProblem:
    """One thing wrong with one row."""
    return pb.RowProblem(
        row=problem.row,
        line=problem.line,
        field=problem.field,
        code=problem.code,
        message=problem.message,
        excerpt=problem.excerpt,
        severity=_SEVERITIES[problem.severity],
    )


def checked_to_proto(report: Report) -> pb.CheckDatasetResponse:
    """A report that was made with a template and a tokenizer."""
    return pb.CheckDatasetResponse(
        report=report_to_proto(report),
        tokens=None if report.tokens is None else tokens_to_proto(report.tokens),
        examples=map(example_to_proto, report.examples),
    )


def tokens_to_proto(tokens: TokenStats) -> pb.TokenStats:
    """How many tokens the rows have."""
    return pb.TokenStats(
        **tokens.model_dump(exclude={"histogram"}),
        histogram=[pb.TokenLengths(length=n, rows=rows) for n, rows in tokens.histogram],
    )


def example_to_proto(example: RenderedExample) -> pb.RenderedExample:
    """A row as the model will see it."""
    return pb.RenderedExample(
        row=example.row,
        line=example.line,
        pieces=[pb.ExamplePiece(text=one.text, trained=one.trained) for one in example.pieces],
    )
