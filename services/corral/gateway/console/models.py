"""The models page: what can be chatted with, where each came from, and models out as files.

Knows nothing of how models are loaded or stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from nicegui import ui

from corral import formatting
from corral.client import AsyncConnection
from corral.gateway.console import snippets, words
from corral.gateway.console.elements import (
    Cell,
    Column,
    box,
    button,
    card,
    code_tabs,
    confirmed,
    empty,
    heading,
    icon_button,
    pill,
    table,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.tasks import telling_errors
from corral.v1 import inference_pb2, trainer_pb2

_CHECKPOINTS = (
    Column("Checkpoint", "head"),
    Column("Size", "number"),
    Column("Template"),
    Column("Memory"),
    Column("Saved", "short"),
    Column("", "actions"),
)
_BASES = (
    Column("Model", "head"),
    Column("Size", "number"),
    Column("Memory"),
    Column("", "actions"),
)


@dataclass(frozen=True)
class Shelf:
    """All models, with the jobs and data that they came from."""

    models: list[inference_pb2.Model]
    jobs: dict[str, trainer_pb2.TrainingJob]
    datasets: dict[str, str]


async def _look(client: AsyncConnection) -> Shelf:
    return Shelf(
        [model async for model in client.models()],
        {job.id: job async for job in client.jobs()},
        {one.id: one.filename async for one in client.datasets()},
    )


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/models")
    async def models() -> None:
        async with framed("Models", "Models"):
            head("Models", "Every base model and every checkpoint, and what each was made from.")
            client = await sessions.client()
            shown = ui.refreshable(_Page(client).show)

            async def again() -> None:
                with telling_errors():
                    shown.refresh(await _look(client), again)

            shown(await _look(client), again)


class _Page:
    def __init__(self, client: AsyncConnection) -> None:
        self._client = client

    def show(self, shelf: Shelf, again: Callable[[], Awaitable[None]]) -> None:
        trained = [model for model in shelf.models if not model.is_base]
        bases = [model for model in shelf.models if model.is_base]
        if not shelf.models:
            with empty(
                "inventory_2",
                "No models yet",
                "Pull or import a base model, then train it: corral models pull Qwen/Qwen3-0.6B",
            ):
                button("Train a model", href="/train", kind="primary")
        for job_id in dict.fromkeys(model.job_id for model in trained):
            self._family(job_id, [m for m in trained if m.job_id == job_id], shelf)
        if bases:
            with card(classes="flush") as section:
                section.props["aria-label"] = "Base models"
                heading("Base models")
                with box("scroll"):
                    table("Base models", _BASES, [self._base(one, again) for one in bases])

    def _family(self, job_id: str, models: list[inference_pb2.Model], shelf: Shelf) -> None:
        job = shelf.jobs.get(job_id)
        title = words.job_title(job) if job else words.model_title(models[0].name)
        with card(classes="flush") as section:
            section.props["aria-label"] = title
            with box("bar apart"):
                with box("stack close"):
                    heading(title)
                    if job:
                        _lineage(job, shelf)
                if len(models) > 1:
                    href = words.chat_path(models[0].name, models[-1].name)
                    button("Compare newest and oldest", href=href, icon="compare_arrows")
            with box("scroll"):
                table(f"Checkpoints of {title}", _CHECKPOINTS, [_checkpoint(one) for one in models])

    def _base(self, model: inference_pb2.Model, again: Callable[[], Awaitable[None]]) -> list[Cell]:
        async def delete() -> None:
            detail = "Only models that were imported can be deleted. What was trained on it stays."
            if await confirmed(f"Delete {model.name}?", detail, "Delete it"):
                with telling_errors():
                    await self._client.delete_base_model(model.name)
                    await again()

        def actions() -> None:
            with box("bar tight"):
                button("Chat", href=words.chat_path(model.name))
                button("Train", href=f"/train?{urlencode({'model': model.name})}")
                icon_button("download", f"Export {model.name}", lambda: _export(model.name))
                icon_button("delete", f"Delete {model.name}", delete)

        return [model.name, _size(model), lambda: _memory(model), actions]


def _lineage(job: trainer_pb2.TrainingJob, shelf: Shelf) -> None:
    """What the model was made from: base model, data, job."""
    with box("bar tight small muted"):
        text(words.short_base(job.spec.model), tag="span")
        text("+", tag="span").props("aria-hidden=true")
        if filename := shelf.datasets.get(job.dataset_id):
            ui.link(filename, f"/data/{job.dataset_id}")
        else:
            text("data that is gone", tag="span")
        text("→", tag="span").props("aria-hidden=true")
        ui.link(f"its job and settings ({job.id})", f"/jobs/{job.id}")


def _checkpoint(model: inference_pb2.Model) -> list[Cell]:
    def name() -> None:
        with box("stack close"):
            text(f"step {model.step:,}", tag="span")
            text(model.name, "mono muted small", "span")

    def actions() -> None:
        with box("bar tight"):
            button("Chat", href=words.chat_path(model.name))
            icon_button("download", f"Export step {model.step}", lambda: _export(model.name))

    return [
        name,
        _size(model),
        model.template,
        lambda: _memory(model),
        words.ago(model.created_at),
        actions,
    ]


def _size(model: inference_pb2.Model) -> str:
    return formatting.size(model.size_bytes) if model.size_bytes else "–"


def _memory(model: inference_pb2.Model) -> None:
    if model.is_loaded:
        pill(f"loaded, {formatting.size(model.loaded_bytes)}", "good")
    else:
        pill("not loaded")


async def _export(model: str) -> None:
    with ui.dialog() as dialog, box("card"):
        heading("Export")
        text("Fetches the files to the machine on which you type it.", "muted")
        code_tabs(snippets.exporting(model))
        button("Close", dialog.close)
    await dialog
    dialog.delete()
