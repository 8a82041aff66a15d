"""One data set: what is wrong with its rows, and what a model would see of them.

Knows nothing of how rows become tokens: the trainer does that.
"""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui
from nicegui.element import Element

from corral import formatting
from corral.client import AsyncConnection
from corral.errors import CorralError
from corral.gateway.console import charts, words
from corral.gateway.console.choices import base_models, default_base
from corral.gateway.console.data import verdict
from corral.gateway.console.elements import (
    Cell,
    Column,
    box,
    button,
    card,
    error_note,
    facts,
    heading,
    pill,
    table,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.spec_form import SpecForm
from corral.gateway.console.tasks import Debounced, while_open
from corral.v1 import trainer_pb2

_BINS = 24
_PROBLEMS_SHOWN = 50
_WAIT_SECONDS = 0.6
# Of a spec, what decides about tokens.
_DECIDING = ("model", "template", "max_length", "preamble")


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/data/{dataset_id}")
    async def dataset(dataset_id: str) -> None:
        async with framed("Data", "Data set"):
            client = await sessions.client()
            found = await client.get_dataset(dataset_id)
            ui.page_title(f"{found.filename} · Corral")
            with head(found.filename or found.id[:12], _summary(found)):
                button(
                    "Train on it", href=f"/train?dataset={found.id}", kind="primary", icon="tune"
                )
            await _as_a_model_sees_it(client, found)


def _summary(dataset: trainer_pb2.Dataset) -> str:
    kind = dataset.format.replace("_", " ")
    size = formatting.size(dataset.size_bytes)
    return f"{kind}, {size}, uploaded {words.ago(dataset.created_at)}"


async def _as_a_model_sees_it(client: AsyncConnection, dataset: trainer_pb2.Dataset) -> None:
    bases = await base_models(client)
    with box("stack wide"):
        report = box("stack wide")
        with report:
            show_report(dataset.report)
        form = _controls(bases)
        tokens = box("stack wide").props("aria-live=polite")
        with tokens:
            text("Counting tokens …", "muted")

    async def check() -> None:
        try:
            checked = await client.check_dataset(dataset.id, form.given())
        except CorralError as error:
            with _emptied(tokens):
                error_note(error)
            return
        with _emptied(report):
            show_report(checked.report)
        with _emptied(tokens):
            show_tokens(checked)

    form.on_change(Debounced(check, _WAIT_SECONDS, tokens))
    while_open(check(), tokens)


def _controls(bases: list[str]) -> SpecForm:
    form = SpecForm(bases, {"model": default_base(bases)})
    with card("As a model sees it"):
        sentence = (
            "Each model cuts text into tokens in its own way; the template puts rows into words."
        )
        text(sentence, "muted")
        with box("fields"):
            for name in _DECIDING:
                form.add(name)
    return form


def _emptied(element: Element) -> Element:
    element.clear()
    return element


def show_report(report: trainer_pb2.DatasetReport) -> None:
    """Counts, and every problem with its line."""
    with card("Report"):
        with box("bar tight"):
            verdict(report)
        facts(
            [
                ("Rows", f"{report.rows:,}"),
                ("Usable", f"{report.usable_rows:,}"),
                ("Problems", f"{report.problem_count:,}"),
            ]
        )
    if report.problems:
        _problems(report)


def _problems(report: trainer_pb2.DatasetReport) -> None:
    columns = (
        Column("Line", "number"),
        Column("Weight"),
        Column("Field"),
        Column("What is wrong", "head"),
        Column("In the file"),
    )
    shown = report.problems[:_PROBLEMS_SHOWN]
    with card(classes="flush") as section:
        section.props["aria-label"] = "Problems"
        heading("Problems")
        with box("scroll"):
            table("Problems in the rows", columns, [_problem(one) for one in shown])
        if report.problem_count > len(shown):
            more = formatting.count(report.problem_count - len(shown), "more problem")
            text(f"… and {more}", "muted small").style("padding: 12px 20px")


def _problem(one: trainer_pb2.RowProblem) -> list[Cell]:
    is_error = one.severity == trainer_pb2.RowProblem.SEVERITY_ERROR
    return [
        f"{one.line:,}",
        lambda: pill("error", "bad") if is_error else pill("remark", "warn"),
        one.field or "whole row",
        one.message,
        lambda: text(one.excerpt, "mono muted", "span"),
    ]


def show_tokens(checked: trainer_pb2.CheckDatasetResponse) -> None:
    """How long the rows are, and the first of them as the model reads them."""
    tokens = checked.tokens
    if tokens.total:
        with card("Tokens"):
            facts(
                [
                    ("In all", f"{tokens.total:,}"),
                    ("Trained on", f"{tokens.trained:,} ({tokens.trained / tokens.total:.0%})"),
                    ("Of a row, middle", f"{tokens.p50:,}"),
                    ("9 of 10 rows below", f"{tokens.p90:,}"),
                    ("Longest", f"{tokens.max:,}"),
                    (f"Cut at {tokens.max_length:,}", f"{tokens.too_long:,}"),
                ]
            )
            label = f"Rows by their number of tokens: half have up to {tokens.p50}, the longest has {tokens.max}"
            charts.histogram(label, bins_of(tokens.histogram, tokens.max_length), "tokens of a row")
    if checked.examples:
        with card("The first rows"):
            with box("bar tight small muted"):
                text("The model is trained to write", tag="span")
                with box("render", "span").style("padding: 0 6px; border-radius: 4px"):
                    text("what is coloured", "trained", "span")
                text("and only reads the rest.", tag="span")
            for example in checked.examples:
                with box("stack close"):
                    text(f"Line {example.line:,}", "small muted")
                    with box("render") as shown:
                        shown.props("tabindex=0").props["aria-label"] = f"Line {example.line}"
                        for piece in example.pieces:
                            text(piece.text, "trained" if piece.trained else "", "span")


def bins_of(
    histogram: Sequence[trainer_pb2.TokenLengths], max_length: int
) -> list[tuple[str, int, bool]]:
    """Bars of equal width: the range of lengths, its rows, and whether they are cut."""
    if not histogram:
        return []
    low, high = histogram[0].length, histogram[-1].length
    width = max(1, -(-(high - low + 1) // _BINS))
    counts: dict[int, int] = {}
    for one in histogram:
        number = (one.length - low) // width
        counts[number] = counts.get(number, 0) + one.rows
    made = []
    for number in range((high - low) // width + 1):
        first = low + number * width
        name = f"{first}" if width == 1 else f"{first}–{first + width - 1}"
        made.append((name, counts.get(number, 0), first > max_length))
    return made
