"""One model of the chat page: which it is, its template, and what was said with it.

Knows nothing of the models beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from nicegui import ui

from corral.client import AsyncConnection
from corral.data.conversation import Conversation, Message
from corral.data.templates import PromptTemplate
from corral.errors import CorralError
from corral.gateway.console import words
from corral.gateway.console.elements import box, error_note, icon_button, text
from corral.v1 import inference_pb2 as pb

# How often a growing answer is drawn.
_DRAW_SECONDS = 0.08
_EXAMPLE = "…"


@dataclass(frozen=True)
class Question:
    """What is asked of every lane."""

    text: str
    context: str
    system: str
    sampling: pb.SamplingOptions


@dataclass
class Lane:
    """A model with its conversation. `remove` takes it off the page."""

    client: AsyncConnection
    choices: dict[str, str]
    model: str
    remove: Callable[[Lane], None]
    number: int
    messages: list[pb.Message] = field(default_factory=list)

    def build(self) -> None:
        """Show it in the element that is open."""
        with box("card lane", "section") as self.card:
            self.card.props["aria-label"] = f"Model {self.number}"
            with box("bar tight").style("flex-wrap: nowrap"):
                label = text(f"Model {self.number}", "visually-hidden", "label")
                label.props["for"] = f"model-{self.number}"
                select = ui.select(self.choices, value=self.model, with_input=True).classes("grow")
                select.props(f"outlined dense for=model-{self.number} hide-selected fill-input")
                select.on_value_change(lambda event: self._choose(event.value))
                self.close = icon_button("close", f"Remove model {self.number}", self._remove)
            with ui.expansion("Prompt template").classes("fold small") as self._template:
                self._rendered = text("", "render", "pre")
            self._template.on_value_change(self._show_template)
            with box("talk").props("role=log aria-live=polite tabindex=0") as talk:
                talk.props["aria-label"] = f"Conversation with model {self.number}"
                self._turns = box("turns")
                with self._turns:
                    self._hint = text("Ask something below.", "muted")

    def _remove(self) -> None:
        self.remove(self)

    def _choose(self, model: str | None) -> None:
        if model:
            self.model = model
            self._template.close()

    def clear(self) -> None:
        """Forget what was said."""
        self.messages.clear()
        self._turns.clear()

    # ------------------------------------------------------------ asking

    async def ask(self, question: Question) -> None:
        """Show the question, and the answer as it comes. Cancelled, what has come stays."""
        asked = pb.Message(role=pb.ROLE_USER, content=question.text, input=question.context)
        with self._turns:
            self._hint.set_visibility(False)
            _said(
                "user",
                "You",
                question.text if not question.context else f"{question.text}\n\n{question.context}",
            )
            answer = _Answer(words.model_title(self.model), _seed(question.sampling))
        request = pb.ChatRequest(
            model=self.model,
            messages=[*_system(question.system), *self.messages, asked],
            sampling=question.sampling,
            drop_oldest_turns=True,
        )
        try:
            async with aclosing(self.client.chat(request)) as responses:
                async for response in responses:
                    answer.take(response)
        except CorralError as error:
            with self._turns:
                error_note(error)
        finally:
            answer.end()
        if answer.finish is not None:
            said = pb.Message(role=pb.ROLE_ASSISTANT, content=answer.text)
            self.messages += [asked, said]

    # ------------------------------------------------------------ template

    async def _show_template(self) -> None:
        if not self._template.value:
            return
        try:
            template = PromptTemplate.from_manifest(await self.client.template_of(self.model))
            asked = [
                Message("user", m.content, m.input)
                if m.role == pb.ROLE_USER
                else Message("assistant", m.content)
                for m in self.messages
            ]
            rendered = template.render_prompt(Conversation((*asked, Message("user", _EXAMPLE))))
            self._rendered.set_text("".join(segment.text for segment in rendered))
        except CorralError as error:
            self._rendered.set_text(str(error))


class _Answer:
    """An answer that grows; drawn a few times a second, not for each token."""

    def __init__(self, speaker: str, remark: str) -> None:
        self.text = ""
        self._remark = remark
        self.finish: pb.Finish | None = None
        self._drawn = 0.0
        with box("turn"):
            text(speaker, "muted small")
            self._said = text("", "said waiting", "div").props("aria-busy=true")
            self._note = text("", "muted small")

    def take(self, response: pb.ChatResponse) -> None:
        if response.WhichOneof("event") == "finish":
            self.finish = response.finish
            return
        self.text += response.text
        now = time.monotonic()
        if now - self._drawn >= _DRAW_SECONDS:
            self._drawn = now
            self._said.set_text(self.text)

    def end(self) -> None:
        self._said.set_text(self.text or "(no text)")
        self._said.classes(remove="waiting").props("aria-busy=false")
        self._note.set_text(
            f"{words.finish(self.finish) if self.finish else 'stopped'}{self._remark}"
        )
        if self.finish is not None and self.finish.reason == pb.FINISH_REASON_LOOP:
            self._note.classes("pill warn")


def _seed(sampling: pb.SamplingOptions) -> str:
    return f" · seed {sampling.seed}" if sampling.HasField("seed") else ""


def _said(who: str, speaker: str, content: str) -> None:
    with box(f"turn {who}"):
        text(speaker, "visually-hidden", "span")
        text(content, "said", "div")


def _system(content: str) -> list[pb.Message]:
    return [pb.Message(role=pb.ROLE_SYSTEM, content=content)] if content else []
