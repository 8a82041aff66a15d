"""The list of all jobs. Knows nothing of what a job does."""

from __future__ import annotations

from nicegui import ui

from corral.client import AsyncConnection
from corral.gateway.console import words
from corral.gateway.console.elements import (
    Cell,
    Column,
    box,
    button,
    card,
    empty,
    pill,
    table,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.tasks import telling_errors
from corral.v1 import trainer_pb2

_REFRESH_SECONDS = 10.0
_COLUMNS = (
    Column("Job", "head"),
    Column("State"),
    Column("Step", "number"),
    Column("Loss", "number"),
    Column("Checkpoints", "number"),
    Column("Begun", "short"),
    Column("", "actions"),
)


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/jobs")
    async def jobs() -> None:
        async with framed("Jobs", "Jobs"):
            with head("Jobs", "Every training run, newest first."):
                button("Train a model", href="/train", kind="primary", icon="add")
            client = await sessions.client()
            shown = ui.refreshable(_listed)
            shown(await _all(client))

            async def again() -> None:
                with telling_errors():
                    shown.refresh(await _all(client))

            ui.timer(_REFRESH_SECONDS, again, immediate=False)


async def _all(client: AsyncConnection) -> list[trainer_pb2.TrainingJob]:
    return [job async for job in client.jobs()]


def _listed(jobs: list[trainer_pb2.TrainingJob]) -> None:
    if not jobs:
        with empty(
            "show_chart",
            "No jobs yet",
            "A job teaches a model your examples; its loss and its answers are shown here as it learns.",
        ):
            button("Train a model", href="/train", kind="primary")
        return
    with card(classes="flush scroll"):
        table("Training jobs", _COLUMNS, [_row(job) for job in jobs])


def _row(job: trainer_pb2.TrainingJob) -> list[Cell]:
    def name() -> None:
        with box("stack close"):
            ui.link(words.job_title(job), f"/jobs/{job.id}")
            text(f"{words.short_base(job.spec.model)} · {job.id}", "muted small", "span")

    def actions() -> None:
        if job.fine_tuned_model:
            button("Chat", href=words.chat_path(job.fine_tuned_model))

    total = job.progress.total_steps
    return [
        name,
        lambda: pill(*words.state(job.state)),
        f"{job.progress.step:,} of {total:,}" if total else "–",
        f"{job.progress.loss:.3f}" if total else "–",
        f"{len(job.checkpoints):,}",
        words.ago(job.created_at),
        actions,
    ]
