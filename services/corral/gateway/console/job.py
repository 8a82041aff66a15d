"""The page of one job, live as long as it is open.

Follows the job's events and hands them to the page's parts. Knows nothing of how a job is carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from nicegui import ui

from corral.client import AsyncConnection
from corral.errors import CorralError, DatasetNotFoundError, UnavailableError
from corral.gateway.console import snippets, words
from corral.gateway.console.elements import (
    box,
    button,
    card,
    code_tabs,
    confirmed,
    error_note,
)
from corral.gateway.console.job_history import History
from corral.gateway.console.job_parts import Answers, Charts, Checkpoints, Log, Status
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.tasks import telling_errors, while_open
from corral.v1 import trainer_pb2 as pb

# How often what has changed is drawn, and how long a lost connection is left alone.
_DRAW_SECONDS = 1.0
_AGAIN_SECONDS = 5.0

_ENDS = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)
_PAUSABLE = (pb.JOB_STATE_QUEUED, pb.JOB_STATE_STARTING, pb.JOB_STATE_RUNNING)
_CANCELLABLE = (*_PAUSABLE, pb.JOB_STATE_PAUSED, pb.JOB_STATE_PAUSING)


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/jobs/{job_id}")
    async def job(job_id: str) -> None:
        async with framed("Jobs", "Job"):
            client = await sessions.client()
            found = await client.get_job(job_id)
            ui.page_title(f"{words.job_title(found)} · Corral")
            await JobPage(client, found).build()


class JobPage:
    """The parts of the page, and the job as it was last seen."""

    def __init__(self, client: AsyncConnection, job: pb.TrainingJob) -> None:
        self._client = client
        self._job = job
        self._history = History()
        self._changed: set[str] = set()

    async def build(self) -> None:
        base = words.short_base(self._job.spec.model)
        with head(words.job_title(self._job), f"{base}, {self._job.id}") as actions:
            self._actions = actions
        self._status = Status()
        self._charts = Charts()
        self._answers = Answers()
        self._checkpoints = Checkpoints()
        await self._settings()
        self._log = Log()
        self._draw_job()
        while_open(self._follow(), self._actions)
        ui.timer(_DRAW_SECONDS, self._draw)

    # ------------------------------------------------------------ following

    async def _follow(self) -> None:
        """Take in events until the job's last; when the connection is lost, go on where it was."""
        while True:
            try:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        kind = self._history.add(event)
                        self._changed.add(kind)
                        if kind in ("state_change", "checkpoint"):
                            self._changed.add("job")
                return
            except UnavailableError:
                await asyncio.sleep(_AGAIN_SECONDS)

    def _events(self) -> AsyncGenerator[pb.TrainingEvent]:
        return self._client.watch_job(self._job.id, self._history.number)

    async def _draw(self) -> None:
        """Draw what has changed since the last time."""
        changed, self._changed = self._changed, set()
        if not changed:
            return
        if "job" in changed:
            with telling_errors():
                self._job = await self._client.get_job(self._job.id)
            self._draw_job()
        elif "metrics" in changed:
            self._status.show(self._job, self._history.progress)
        if changed & {"metrics", "evaluation", "checkpoint"}:
            self._charts.show(self._history)
        if "evaluation" in changed:
            self._answers.show(self._history)
        if changed & {"log_line", "state_change"}:
            self._log.show(self._history)

    def _draw_job(self) -> None:
        progress = self._history.progress
        self._status.show(self._job, progress if progress.total_steps else self._job.progress)
        self._checkpoints.show(self._job)
        self._show_actions()

    # ------------------------------------------------------------ what can be done

    def _show_actions(self) -> None:
        state = self._job.state
        self._actions.clear()
        with self._actions:
            if self._job.fine_tuned_model:
                href = words.chat_path(self._job.fine_tuned_model)
                button("Chat", href=href, kind="primary", icon="forum")
            if state in _PAUSABLE:
                button("Pause", self._doing(self._client.pause_job), icon="pause")
            if state in (pb.JOB_STATE_PAUSED, pb.JOB_STATE_PAUSING):
                button("Resume", self._doing(self._client.resume_job), icon="play_arrow")
            if state in _CANCELLABLE:
                button("Cancel", self._cancel, kind="danger", icon="close")
            if state in _ENDS:
                button("Delete", self._delete, kind="danger", icon="delete")

    def _doing(
        self, call: Callable[[str], Awaitable[pb.TrainingJob]]
    ) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            with telling_errors():
                self._job = await call(self._job.id)
                self._draw_job()

        return do

    async def _cancel(self) -> None:
        detail = "Its checkpoints stay; it can't be resumed. To go on later, pause it instead."
        if await confirmed("Cancel this job?", detail, "Cancel it"):
            await self._doing(self._client.cancel_job)()

    async def _delete(self) -> None:
        detail = "Its checkpoints and its log go with it: nobody can chat with them any more."
        if await confirmed("Delete this job?", detail, "Delete it"):
            with telling_errors():
                await self._client.delete_job(self._job.id)
                ui.navigate.to("/jobs")

    # ------------------------------------------------------------ what it was made from

    async def _settings(self) -> None:
        api = f"{str(ui.context.client.request.base_url).rstrip('/')}/v1"
        filename = "rows.jsonl"
        with card("Again, as code") as section:
            try:
                dataset = await self._client.get_dataset(self._job.dataset_id)
                filename = dataset.filename or filename
            except DatasetNotFoundError:
                pass
            except CorralError as error:
                error_note(error)
            with box("bar small muted"):
                ui.link(filename, f"/data/{self._job.dataset_id}")
            fields = snippets.changed_fields(self._job.spec)
            code_tabs(snippets.training(filename, fields, api))
        section.props["id"] = "as-code"
