"""The console's own small elements: headings, cards, pills, tables, buttons, code to copy.

Every text is set as text: what a model, a row or a file name says is never read as HTML. Knows nothing
of Corral's services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from corral.errors import CorralError

Tone = Literal["", "good", "warn", "bad"]
ButtonKind = Literal["primary", "secondary", "danger", "quiet"]
Handler = Callable[..., Any]


def text(content: str, classes: str = "", tag: str = "p") -> TextElement:
    """A text in an HTML element of its own."""
    return TextElement(tag=tag, text=content).classes(classes)


def heading(content: str, level: int = 2) -> TextElement:
    """A heading; level 1 is the page's."""
    return TextElement(tag=f"h{level}", text=content)


def box(classes: str, tag: str = "div") -> Element:
    """A container with classes of the style sheet."""
    return ui.element(tag).classes(classes)


@contextmanager
def card(title: str = "", classes: str = "") -> Iterator[Element]:
    """A section, named by its heading."""
    with box(f"card {classes}", "section") as section:
        if title:
            section.props["aria-label"] = title
            heading(title)
        yield section


def pill(content: str, tone: Tone = "") -> TextElement:
    """A word on a coloured ground; the word says all that the colour does."""
    return TextElement(tag="span", text=content).classes(f"pill {tone}")


def button(
    label: str,
    on_click: Handler | None = None,
    *,
    kind: ButtonKind = "secondary",
    icon: str | None = None,
    href: str = "",
) -> ui.button:
    """A button; with `href` a link that looks like one."""
    made = ui.button(label, on_click=on_click, icon=icon, color=None).classes(f"btn {kind}")
    made.props("flat" if kind == "quiet" else "unelevated" if kind == "primary" else "flat")
    if href:
        made.props["href"] = href
        made.props["tag"] = "a"
    return made


def icon_button(icon: str, label: str, on_click: Handler | None = None) -> ui.button:
    """A button without a visible word; its label is read out, and shown as a tip."""
    made = ui.button(icon=icon, on_click=on_click, color=None)
    made.classes("btn quiet round-icon").props("flat").props["aria-label"] = label
    with made:
        ui.tooltip(label)
    return made


def facts(pairs: Sequence[tuple[str, str]], classes: str = "") -> Element:
    """Names with their values."""
    with box(f"facts {classes}", "dl") as made:
        for name, value in pairs:
            with box(""):
                text(name, tag="dt")
                text(value, tag="dd")
    return made


def empty(icon: str, title: str, words: str) -> Element:
    """What stands where there is nothing yet; buttons can be added to it."""
    with box("card empty", "section") as made:
        ui.icon(icon).props("aria-hidden=true")
        heading(title)
        text(words)
    return made


def note(title: str, hint: str = "", tone: Tone = "") -> Element:
    """A remark on coloured ground."""
    with box(f"note {tone}") as made:
        if tone == "bad":
            made.props("role=alert")
        text(title)
        if hint:
            text(hint, "hint small")
    return made


def error_note(error: CorralError) -> Element:
    """What was wrong, and what to do."""
    return note(error.message, error.hint, "bad")


def track(share: float, label: str) -> Element:
    """A bar that is filled to a share of 1."""
    percent = round(100 * min(1.0, max(0.0, share)))
    with box("track") as made:
        made.props(f"role=progressbar aria-valuemin=0 aria-valuemax=100 aria-valuenow={percent}")
        made.props["aria-label"] = label
        box("").style(f"width: {percent}%")
    return made


@dataclass(frozen=True)
class Column:
    """A column of a table. On a phone a `head` leads a row's card; what is `short` stays on a line."""

    title: str
    kind: Literal["", "head", "short", "number", "actions"] = ""


Cell = str | Callable[[], Any]


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Element:
    """A table that becomes a list of cards on a phone. A cell is a text, or builds its content."""
    with box("rows", "table") as made:
        text(caption, "visually-hidden", "caption")
        with box("", "thead"), box("", "tr"):
            for column in columns:
                text(column.title, column.kind, "th").props("scope=col")
        with box("", "tbody"):
            for row in rows:
                with box("", "tr"):
                    for column, cell in zip(columns, row, strict=True):
                        _cell(column, cell)
    return made


def _cell(column: Column, cell: Cell) -> None:
    with box(column.kind, "td") as made:
        made.props["data-label"] = column.title
        if isinstance(cell, str):
            text(cell, tag="span")
        else:
            cell()


def code(content: str, label: str) -> Element:
    """A text to copy."""
    with box("code") as made:
        text(content, tag="pre").props["aria-label"] = label
        icon_button("content_copy", f"Copy: {label}", lambda: copy(content))
    return made


def copy(content: str) -> None:
    """Put a text on the clipboard, and say so."""
    ui.clipboard.write(content)
    ui.notify("Copied", type="positive", timeout=1500)


def code_tabs(snippets: dict[str, str]) -> Element:
    """Texts to copy, one shown at a time."""
    with box("stack close") as made:
        with ui.tabs().props("dense align=left no-caps inline-label") as tabs:
            for name in snippets:
                ui.tab(name)
        with ui.tab_panels(tabs, value=next(iter(snippets)), animated=False):
            for name, content in snippets.items():
                with ui.tab_panel(name):
                    code(content, name)
    return made


async def confirmed(question: str, detail: str, action: str) -> bool:
    """Ask before something is gone; Escape means no."""
    with ui.dialog() as dialog, box("card"):
        heading(question)
        text(detail, "muted")
        with box("bar tight"):
            button(action, lambda: dialog.submit(True), kind="danger")
            button("Keep it", lambda: dialog.submit(False))
    answer = bool(await dialog)
    dialog.delete()
    return answer
