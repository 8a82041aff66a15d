"""The data page: drop a file, and what was uploaded before.

Knows nothing of how rows are checked: the trainer does that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

from corral import formatting
from corral.client import AsyncConnection
from corral.errors import CorralError
from corral.gateway.console import words
from corral.gateway.console.elements import (
    Cell,
    Column,
    box,
    button,
    card,
    confirmed,
    empty,
    error_note,
    icon_button,
    pill,
    table,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.tasks import telling_errors
from corral.v1 import trainer_pb2

_COLUMNS = (
    Column("File", "head"),
    Column("Rows", "number"),
    Column("Format"),
    Column("Size", "number"),
    Column("Checked"),
    Column("Uploaded", "short"),
    Column("", "actions"),
)


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/data")
    async def data() -> None:
        async with framed("Data", "Data"):
            head(
                "Data",
                "Questions and the answers that you want: Alpaca, prompt and completion, or chat messages, as JSON or JSONL.",
            )
            client = await sessions.client()
            drop_zone(client)
            shown = ui.refreshable(_listed)

            async def again() -> None:
                with telling_errors():
                    shown.refresh([one async for one in client.datasets()], client, again)

            shown([one async for one in client.datasets()], client, again)


def drop_zone(client: AsyncConnection) -> None:
    """Takes a file, and goes to its report; what is wrong with it as a whole is said here."""
    problem = box("stack")

    async def received(event: events.UploadEventArguments) -> None:
        problem.clear()
        try:
            dataset = await client.upload_dataset(event.file.name, event.file.iterate())
        except CorralError as error:
            with problem:
                error_note(error)
            uploader.reset()
            return
        ui.navigate.to(f"/data/{dataset.id}")

    with box("drop"):
        with box("words"):
            ui.icon("upload_file").props("aria-hidden=true")
            text("Drop a file here, or choose one")
            text("JSON or JSONL; it is checked row by row at once", "muted small")
        uploader = ui.upload(on_upload=received, auto_upload=True).props("flat")
        uploader.props["accept"] = ".json,.jsonl,.ndjson,.txt"
        uploader.props["aria-label"] = "Upload a data set"
        uploader.on(
            "rejected",
            lambda: ui.notify("Only JSON and JSONL files can be read.", type="negative"),
        )


def _listed(
    datasets: list[trainer_pb2.Dataset],
    client: AsyncConnection,
    again: Callable[[], Awaitable[None]],
) -> None:
    if not datasets:
        empty("inbox", "No data yet", "What you drop above is kept here, with its report.")
        return
    with card(classes="flush scroll"):
        table("Uploaded data sets", _COLUMNS, [_row(one, client, again) for one in datasets])


def _row(
    dataset: trainer_pb2.Dataset, client: AsyncConnection, again: Callable[[], Awaitable[None]]
) -> list[Cell]:
    async def delete() -> None:
        question = f"Delete {dataset.filename}?"
        if await confirmed(question, "Models that were trained on it stay.", "Delete it"):
            with telling_errors():
                await client.delete_dataset(dataset.id)
                await again()

    def actions() -> None:
        with box("bar tight"):
            button("Train", href=f"/train?dataset={dataset.id}")
            icon_button("delete", f"Delete {dataset.filename}", delete)

    return [
        lambda: ui.link(dataset.filename or dataset.id[:12], f"/data/{dataset.id}"),
        f"{dataset.report.rows:,}",
        dataset.format.replace("_", " "),
        formatting.size(dataset.size_bytes),
        lambda: verdict(dataset.report),
        words.ago(dataset.created_at),
        actions,
    ]


def verdict(report: trainer_pb2.DatasetReport) -> None:
    """Whether the rows can be trained on, as a pill."""
    broken = report.rows - report.usable_rows
    if broken:
        pill(f"{formatting.count(broken, 'row')} can't be used", "bad")
    elif report.problem_count:
        pill(formatting.count(report.problem_count, "remark"), "warn")
    else:
        pill("all rows good", "good")
