"""The chat page: one to three models answer the same question, drawn with the same seed.

Knows nothing of how an answer is shown, see corral.gateway.console.chat_lane.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from fastapi import Request
from nicegui import background_tasks, ui
from nicegui.element import Element

from corral.client import AsyncConnection
from corral.gateway.console import snippets
from corral.gateway.console.chat_lane import Lane, Question
from corral.gateway.console.choices import model_choices
from corral.gateway.console.elements import (
    box,
    button,
    code_tabs,
    empty,
    heading,
    icon_button,
    text,
)
from corral.gateway.console.layout import framed, head
from corral.gateway.console.session import Sessions
from corral.gateway.console.spec_form import SpecForm
from corral.sampling import SamplingOptions
from corral.v1 import inference_pb2 as pb

MOST_MODELS = 3
_SEED_BITS = 31
_FIELDS = (
    "temperature",
    "max_tokens",
    "seed",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "loop_guard",
    "stop",
)
_SEND_ON_ENTER = (
    "(event) => { if (event.key === 'Enter' && !event.shiftKey && !event.isComposing)"
    " { event.preventDefault(); emit(); } }"
)


def register(sessions: Sessions) -> None:
    """Add the page."""

    @ui.page("/chat")
    async def chat(request: Request) -> None:
        async with framed("Chat", "Chat", "chat-main") as page:
            page.classes("chat-page")
            actions = head("Chat")
            client = await sessions.client()
            choices = model_choices([model async for model in client.models()])
            if not choices:
                with empty(
                    "forum",
                    "No model to chat with yet",
                    "Train one, or pull a base model: corral models pull Qwen/Qwen3-0.6B",
                ):
                    button("Train a model", href="/train", kind="primary")
                return
            asked = await _known(client, request.query_params.getlist("model"), choices)
            ChatPage(client, choices).build(actions, asked or [next(iter(choices))])


async def _known(client: AsyncConnection, asked: list[str], choices: dict[str, str]) -> list[str]:
    """The models of the address by their whole names: a job's name means its newest checkpoint."""
    found = []
    for name in asked[:MOST_MODELS]:
        found.append(name if name in choices else (await client.get_model(name)).name)
    return [name for name in found if name in choices]


class ChatPage:
    """Lanes, one for each model, and the question that they share."""

    def __init__(self, client: AsyncConnection, choices: dict[str, str]) -> None:
        self._client = client
        self._choices = choices
        self._lanes: list[Lane] = []
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._form = SpecForm(model=SamplingOptions)

    def build(self, actions: Element, models: list[str]) -> None:
        """Show the page with these models."""
        self._drawer()
        with actions:
            self._add = button("Add a model", self._add_another, icon="add")
            icon_button("tune", "Sampling options", self._options.open)
            icon_button("code", "The same as code", self._as_code)
            icon_button("delete_sweep", "Clear the conversation", self._clear)
        self._area = box("chat")
        for model in models:
            self._add_lane(model)
        self._composer()
        self._area.client.on_delete(self._stop)

    # ------------------------------------------------------------ lanes

    def _add_lane(self, model: str) -> None:
        self._count += 1
        lane = Lane(self._client, self._choices, model, self._remove, self._count)
        with self._area:
            lane.build()
        self._lanes.append(lane)
        self._show_limits()

    def _add_another(self) -> None:
        shown = [lane.model for lane in self._lanes]
        following = next((name for name in self._choices if name not in shown), shown[-1])
        self._add_lane(following)

    def _remove(self, lane: Lane) -> None:
        self._lanes.remove(lane)
        lane.card.delete()
        self._show_limits()

    def _show_limits(self) -> None:
        self._add.set_enabled(len(self._lanes) < MOST_MODELS)
        for lane in self._lanes:
            lane.close.set_visibility(len(self._lanes) > 1)

    def _clear(self) -> None:
        self._stop()
        for lane in self._lanes:
            lane.clear()

    # ------------------------------------------------------------ asking

    def _composer(self) -> None:
        with box("composer", "form").props("onsubmit='return false'"):
            label = text("Your question", "visually-hidden", "label")
            label.props["for"] = "question"
            self._question = ui.textarea(
                placeholder="Ask something; Enter sends, Shift+Enter begins a line"
            )
            self._question.props("outlined autogrow autofocus for=question rows=1")
            self._question.on("keydown", self._ask, js_handler=_SEND_ON_ENTER)
            self._send = button("Ask", self._ask, kind="primary", icon="send")
            self._halt = button("Stop", self._stop, icon="stop")
            self._halt.set_visibility(False)

    async def _ask(self) -> None:
        content = str(self._question.value or "").strip()
        if not content or self._tasks:
            return
        sampling = self._sampling()
        question = Question(
            content,
            str(self._context.value or ""),
            str(self._system.value or ""),
            _options(sampling),
        )
        self._question.set_value("")
        self._tasks = {background_tasks.create(lane.ask(question)) for lane in self._lanes}
        self._show_asking(True)
        try:
            await asyncio.wait(self._tasks)
        finally:
            self._tasks = set()
            self._show_asking(False)

    def _show_asking(self, is_asking: bool) -> None:
        self._send.set_visibility(not is_asking)
        self._halt.set_visibility(is_asking)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _sampling(self) -> dict[str, Any]:
        """What was set in the drawer; several models get a seed in common where none was set."""
        given = self._form.given()
        if stop := str(given.pop("stop", "")):
            given["stop"] = [line for line in stop.splitlines() if line]
        if len(self._lanes) > 1:
            given.setdefault("seed", secrets.randbits(_SEED_BITS))
        return given

    # ------------------------------------------------------------ drawer, code

    def _drawer(self) -> None:
        dialog = ui.dialog().props("position=right full-height")
        with dialog, box("drawer stack", "aside") as drawer:
            drawer.props["aria-label"] = "Sampling options"
            with box("bar apart"):
                heading("Sampling")
                icon_button("close", "Close", dialog.close)
            self._system = _long_text("System message", "Said before the conversation.")
            self._context = _long_text("Context", "Further text for the question: Alpaca's input.")
            for name in _FIELDS:
                self._form.add(name)
        self._options = dialog

    async def _as_code(self) -> None:
        api = f"{str(ui.context.client.request.base_url).rstrip('/')}/v1"
        lane = self._lanes[0]
        roles = {pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant"}
        asked = [{"role": roles[m.role], "content": m.content} for m in lane.messages[:-1]]
        if self._system.value:
            asked.insert(0, {"role": "system", "content": str(self._system.value)})
        asked = asked or [{"role": "user", "content": str(self._question.value or "Hello")}]
        models = [one.model for one in self._lanes]
        with ui.dialog() as dialog, box("card"):
            heading("The same as code")
            code_tabs(snippets.chatting(models, asked, self._form.given(), api))
            button("Close", dialog.close)
        await dialog
        dialog.delete()


def _long_text(title: str, hint: str) -> ui.textarea:
    element_id = f"field-{title.lower().replace(' ', '-')}"
    with box("field"):
        text(title, tag="label").props["for"] = element_id
        area = ui.textarea().props(f"outlined dense autogrow rows=1 for={element_id}")
        text(hint, "hint")
    return area


def _options(sampling: dict[str, Any]) -> pb.SamplingOptions:
    return pb.SamplingOptions(**sampling)
