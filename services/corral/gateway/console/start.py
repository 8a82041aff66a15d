"""The start page: what runs, what is free, and what to do next.

Knows nothing of how jobs or models work.
"""

from __future__ import annotations

from dataclasses import dataclass

from nicegui import ui

from corral import formatting
from corral.client import AsyncConnection
from corral.gateway.console import words
from corral.gateway.console.elements import (
    box,
    button,
    card,
    empty,
    facts,
    heading,
    pill,
    text,
    track,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.tasks import telling_errors
from corral.v1 import inference_pb2, trainer_pb2

_REFRESH_SECONDS = 10.0
_RECENT = 5


@dataclass(frozen=True)
class Overview:
    """What the page shows, as it is at one moment."""

    version: str
    datasets: int
    under_way: list[trainer_pb2.TrainingJob]
    recent: list[trainer_pb2.TrainingJob]
    memory: inference_pb2.InferenceMemory
    loaded: int
    models: int
    # The newest model that was trained here; empty before there is one.
    newest_model: str


async def look(client: AsyncConnection) -> Overview:
    """Ask the servers how it stands."""
    info = await client.server_info()
    jobs = [job async for job in client.jobs()]
    models = [model async for model in client.models()]
    return Overview(
        version=info.version,
        datasets=len([one async for one in client.datasets()]),
        under_way=[job for job in jobs if job.state in words.UNDER_WAY],
        recent=[job for job in jobs if job.state not in words.UNDER_WAY][:_RECENT],
        memory=await client.inference_memory(),
        loaded=sum(model.is_loaded for model in models),
        models=len(models),
        newest_model=next((job.fine_tuned_model for job in jobs if job.fine_tuned_model), ""),
    )


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/")
    async def start() -> None:
        async with framed("Start", "Start"):
            head("Your corral", "What runs, what is free, and what to do next.")
            client = await sessions.client()
            overview = await look(client)
            shown = ui.refreshable(show)
            shown(overview)

            async def again() -> None:
                with telling_errors():
                    shown.refresh(await look(client))

            ui.timer(_REFRESH_SECONDS, again, immediate=False)


def show(overview: Overview) -> None:
    """The whole overview."""
    with box("stack wide"):
        _next_steps(overview)
        with box("split"):
            with box("stack"):
                _running(overview)
                if overview.recent:
                    _recent(overview.recent)
            with box("", "aside"):
                _free(overview)


def _next_steps(overview: Overview) -> None:
    with box("grid", "section") as section:
        section.props["aria-label"] = "Next steps"
        _step(
            1,
            "Bring your examples",
            f"{formatting.count(overview.datasets, 'data set')} here. Drop another, and see what a model would learn from it."
            if overview.datasets
            else "Drop a file of questions and answers, and see what a model would learn from it.",
            "/data",
        )
        _step(
            2,
            "Train a model on them",
            "Memory, time and price are worked out while you choose, before anything is spent.",
            "/train",
        )
        newest = overview.newest_model
        _step(
            3,
            "Chat with what it learnt",
            f"Ask {words.model_title(newest)}, or two of its checkpoints side by side."
            if newest
            else "Ask any checkpoint, or two of them side by side under the same question.",
            words.chat_path(newest) if newest else "/chat",
        )


def _step(number: int, title: str, sentence: str, path: str) -> None:
    with box("card card-link", "a") as link:
        link.props["href"] = path
        with box("bar tight"):
            text(str(number), "step-number", "span").props("aria-hidden=true")
            heading(title)
        text(sentence, "muted")


def _running(overview: Overview) -> None:
    if not overview.under_way:
        with empty(
            "pets", "Nothing runs", "Jobs that run or wait are shown here, with their loss."
        ):
            button("Train a model", href="/train", kind="primary")
        return
    with card("Running and waiting"):
        for job in overview.under_way:
            job_row(job)


def job_row(job: trainer_pb2.TrainingJob) -> None:
    """A job with how far it is."""
    name, tone = words.state(job.state)
    with box("stack tight"):
        with box("bar apart"):
            with box("bar tight"):
                ui.link(words.job_title(job), f"/jobs/{job.id}")
                text(words.short_base(job.spec.model), "muted small", "span")
            pill(name, tone)
        track(words.share(job), f"{words.job_title(job)}: {words.progress(job)}")
        text(words.progress(job), "muted small")


def _recent(jobs: list[trainer_pb2.TrainingJob]) -> None:
    with card("Ended lately"):
        for job in jobs:
            name, tone = words.state(job.state)
            with box("bar apart"):
                with box("bar tight"):
                    ui.link(words.job_title(job), f"/jobs/{job.id}")
                    text(words.ago(job.finished_at), "muted small", "span")
                pill(name, tone)


def _free(overview: Overview) -> None:
    waiting = sum(job.state == trainer_pb2.JOB_STATE_QUEUED for job in overview.under_way)
    running = sum(
        job.state in (trainer_pb2.JOB_STATE_RUNNING, trainer_pb2.JOB_STATE_STARTING)
        for job in overview.under_way
    )
    memory = overview.memory
    used = memory.models + memory.caches
    with card("What is free"):
        facts(
            [
                ("Training", f"{running} running" if running else "free"),
                ("Waiting", formatting.count(waiting, "job")),
                ("Models", f"{overview.models:,}"),
                ("In memory", f"{overview.loaded:,}"),
            ]
        )
        with box("stack tight"):
            with box("bar apart small"):
                text("Memory for chat", tag="span")
                text(f"{formatting.size(max(0, memory.budget - used))} free", "muted", "span")
            track(used / memory.budget if memory.budget else 0, "Memory for chat that is in use")
            text(
                f"{formatting.size(memory.models)} of models, {formatting.size(memory.caches)} of "
                f"conversations, of {formatting.size(memory.budget)}",
                "muted small",
            )
        text(f"Corral {overview.version}", "muted small")
