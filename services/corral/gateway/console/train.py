"""The training page: a form made from the spec, and a plan that follows it.

Knows nothing of how a plan is made or a job carried out.
"""

from __future__ import annotations

import secrets

from nicegui import ui
from nicegui.element import Element

from corral.client import AsyncConnection
from corral.errors import CorralError
from corral.gateway.console import snippets
from corral.gateway.console.choices import base_models, dataset_choices, default_base
from corral.gateway.console.elements import (
    box,
    button,
    card,
    code_tabs,
    empty,
    error_note,
    heading,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.plan_panel import show_plan
from corral.gateway.console.session import Sessions
from corral.gateway.console.spec_form import SpecForm
from corral.gateway.console.tasks import Debounced, while_open
from corral.spec import TrainingSpec
from corral.v1 import trainer_pb2

_WAIT_SECONDS = 0.7
_FIRST = ("model", "epochs", "tuning", "learning_rate", "template", "suffix", "preamble")
_FOLDED = {
    "Batches and memory": (
        "batch_size",
        "gradient_accumulation_steps",
        "max_length",
        "packing",
        "precision",
        "gradient_checkpointing",
        "compile",
    ),
    "Evaluation and checkpoints": (
        "eval_split",
        "eval_every",
        "eval_prompts",
        "eval_max_tokens",
        "early_stopping",
        "early_stopping_patience",
        "checkpoint_every",
        "keep_checkpoints",
    ),
    "LoRA": ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"),
    "Where it runs": (
        "backend",
        "gpu",
        "max_cost",
        "timeout_hours",
        "keep_volume",
        "processes",
        "nodes",
        "fsdp",
        "fsdp_wrap",
    ),
}
_LAST = "Schedule and all else"
_SOURCES = {
    "measured": "The time was measured with a few real steps on this machine.",
    "data sheet": "The time is reckoned from the device's data sheet.",
}
_NO_TIME = "How long it takes is not known before it runs."


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/train")
    async def train(dataset: str = "", model: str = "") -> None:
        async with framed("Train", "Train"):
            head(
                "Train",
                "Choose data and a model; the plan says what it takes before anything is spent.",
            )
            client = await sessions.client()
            datasets = await dataset_choices(client)
            if not datasets:
                with empty(
                    "inbox",
                    "There is nothing to train on yet",
                    "Bring a file of questions and answers first.",
                ):
                    button("Bring data", href="/data", kind="primary")
                return
            bases = await base_models(client)
            chosen = dataset if dataset in datasets else next(iter(datasets))
            _Page(client, datasets, chosen, bases, model or default_base(bases)).build()


class _Page:
    """The form, and the plan that follows it."""

    def __init__(
        self,
        client: AsyncConnection,
        datasets: dict[str, str],
        dataset: str,
        bases: list[str],
        model: str,
    ) -> None:
        self._client = client
        self._datasets = datasets
        self._dataset = dataset
        self._form = SpecForm(bases, {"model": model})
        # The same button pressed twice is one job.
        self._key = secrets.token_hex(16)

    def build(self) -> None:
        with box("split"):
            with box("stack"):
                with card("What to train"):
                    self._dataset_field()
                    with box("fields"):
                        for name in _FIRST:
                            self._form.add(name)
                with card("Everything else"):
                    text("All of it has defaults that are good for most.", "muted")
                    with box(""):
                        for group, names in _groups().items():
                            self._group(group, names)
            with box("stack", "aside"):
                self._plan_panel()
        self._follow()

    def _dataset_field(self) -> None:
        with box("field"):
            text("Data", tag="label").props["for"] = "field-dataset"
            select = ui.select(self._datasets, value=self._dataset)
            select.props("outlined dense for=field-dataset")
        select.on_value_change(lambda event: self._choose(str(event.value)))

    def _choose(self, dataset: str) -> None:
        self._dataset = dataset
        self._replan()

    def _group(self, title: str, names: tuple[str, ...]) -> None:
        with ui.expansion(title).classes("fold"), box("fields"):
            for name in names:
                self._form.add(name)

    def _plan_panel(self) -> None:
        with card() as panel:
            panel.props["aria-label"] = "Plan"
            panel.props("aria-live=polite aria-busy=true")
            self._panel = panel
            self._plan = box("stack")
            with self._plan:
                heading("Plan")
            self._status = text("Working it out …", "muted small").props("role=status")
            self._start = button("Start training", self._create, kind="primary", icon="play_arrow")
            self._problem = box("stack")
        button("The same as code", self._as_code, kind="quiet", icon="code")

    def _follow(self) -> None:
        self._replan = Debounced(self._make_plan, _WAIT_SECONDS, self._plan)
        self._form.on_change(self._changed)
        while_open(self._make_plan(), self._plan)

    def _changed(self) -> None:
        self._key = secrets.token_hex(16)
        self._status.set_text("Working it out …")
        self._panel.props("aria-busy=true")
        self._replan()

    async def _make_plan(self) -> None:
        """Memory and steps at once; the time follows where it has to be measured."""
        fields = self._form.given()
        try:
            plan = await self._client.plan_job(self._dataset, fields, quick=True)
            self._show(plan)
            if plan.fits and not plan.time_source:
                self._status.set_text("Measuring a few real steps, to tell the time …")
                self._show(await self._client.plan_job(self._dataset, fields))
        except CorralError as error:
            with self._emptied():
                error_note(error)
            self._start.disable()

    def _show(self, plan: trainer_pb2.TrainingPlan) -> None:
        with self._emptied():
            show_plan(plan, self._form.fill)
        self._start.set_enabled(plan.fits)
        self._status.set_text(_SOURCES.get(plan.time_source, _NO_TIME))

    def _emptied(self) -> Element:
        self._plan.clear()
        self._status.set_text("")
        self._panel.props("aria-busy=false")
        return self._plan

    async def _create(self) -> None:
        self._start.disable()
        self._problem.clear()
        try:
            job = await self._client.create_job(
                self._dataset, self._form.given(), idempotency_key=self._key
            )
        except CorralError as error:
            with self._problem:
                error_note(error)
            self._start.enable()
            return
        ui.navigate.to(f"/jobs/{job.id}")

    async def _as_code(self) -> None:
        api = f"{str(ui.context.client.request.base_url).rstrip('/')}/v1"
        filename = self._datasets[self._dataset].partition(" · ")[0]
        with ui.dialog() as dialog, box("card"):
            heading("The same as code")
            code_tabs(snippets.training(filename, self._form.given(), api))
            button("Close", dialog.close)
        await dialog
        dialog.delete()


def fields_in_order() -> list[str]:
    """Every field of the form, as they stand in it."""
    return [*_FIRST, *(name for names in _groups().values() for name in names)]


def _groups() -> dict[str, tuple[str, ...]]:
    """The folded fields. What has no place of its own is in the last: a new field of the spec too."""
    placed = {*_FIRST, *(name for names in _FOLDED.values() for name in names)}
    rest = tuple(name for name in TrainingSpec.model_fields if name not in placed)
    return {**_FOLDED, _LAST: rest}
