"""The frame around every page: navigation, the way to skip it, light and dark, and what is shown when
a server can't be reached.

Knows nothing of what the pages show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nicegui import ElementFilter, ui
from nicegui.element import Element

from corral.errors import CorralError
from corral.gateway.console.elements import box, button, error_note, heading, icon_button, text

_STYLE = Path(__file__).with_name("console.css")
_THEME_COOKIE = "corral-theme"
_THEMES: dict[str, bool | None] = {"auto": None, "light": False, "dark": True}
_THEME_ICONS = {"auto": "brightness_auto", "light": "light_mode", "dark": "dark_mode"}

# Rails around a circle: the mark of the house.
_MARK = (
    '<svg class="mark" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><path d="M4 7v12M12 5v14M20 7v12M2.5 11h19M2.5 16h19"/></svg>'
)


@dataclass(frozen=True)
class Place:
    """An entry of the navigation."""

    name: str
    path: str
    icon: str


PLACES = (
    Place("Start", "/", "home"),
    Place("Data", "/data", "description"),
    Place("Train", "/train", "tune"),
    Place("Jobs", "/jobs", "show_chart"),
    Place("Chat", "/chat", "forum"),
    Place("Models", "/models", "inventory_2"),
)


@asynccontextmanager
async def framed(place: str, title: str, classes: str = "") -> AsyncIterator[Element]:
    """A page's frame; what is built within it is its content. A CorralError that leaves it is told in
    place of what is missing.
    """
    ui.page_title(f"{title} · Corral")
    # Quasar's page is a second <main>, around the navigation too.
    if (around := ui.context.client.content.parent_slot) is not None:
        around.parent.props("role=presentation")
    ui.add_css(_STYLE.read_text(encoding="utf-8"))
    with box("frame"):
        with box("side", "header"):
            _brand()
            _navigation(place)
            with box("foot"):
                _theme_switch()
        with box(f"main {classes}", "main") as main, box("page") as page:
            main.props("tabindex=-1")
            ui.skip_link("Skip to the content", target=main)
            try:
                yield page
            except CorralError as error:
                _failed(error)


def head(title: str, lead: str = "") -> Element:
    """The page's title with a sentence; returns where its buttons go."""
    with box("page-head"):
        with box("words"):
            heading(title, 1)
            if lead:
                text(lead, "lead")
        return box("bar tight")


def _failed(error: CorralError) -> None:
    error_note(error)
    with box("bar"):
        button("Try again", ui.navigate.reload, icon="refresh")


def _brand() -> None:
    with box("brand", "a").props("href=/"):
        ui.html(_MARK, sanitize=False, tag="span")
        text("Corral", tag="span")


def _navigation(current: str) -> None:
    with box("", "nav").props('aria-label="Main"'), box("links", "ul"):
        for place in PLACES:
            with box("", "li"), box("", "a") as link:
                link.props["href"] = place.path
                if place.name == current:
                    link.props("aria-current=page")
                ui.icon(place.icon).props("aria-hidden=true")
                text(place.name, tag="span")


def _theme_switch() -> None:
    request = ui.context.client.request
    chosen = request.cookies.get(_THEME_COOKIE, "auto")
    chosen = chosen if chosen in _THEMES else "auto"
    dark = ui.dark_mode(_THEMES[chosen])
    switch = icon_button(_THEME_ICONS[chosen], f"Colours: {chosen}")
    switch.on_click(_next_theme(chosen, dark, switch))


def _next_theme(chosen: str, dark: ui.dark_mode, switch: ui.button) -> Callable[[], None]:
    names = list(_THEMES)
    now = [chosen]

    def turn() -> None:
        now[0] = names[(names.index(now[0]) + 1) % len(names)]
        dark.set_value(_THEMES[now[0]])
        switch.set_icon(_THEME_ICONS[now[0]])
        switch.props["aria-label"] = f"Colours: {now[0]}"
        year = 365 * 24 * 3600
        ui.run_javascript(
            f"document.cookie = '{_THEME_COOKIE}={now[0]}; path=/; max-age={year}; samesite=lax'"
        )
        # Charts are drawn in the colours of the moment.
        for chart in ElementFilter(kind=ui.echart):
            chart.update()

    return turn
