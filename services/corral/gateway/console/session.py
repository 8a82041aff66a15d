"""Whose console a page is: the client that its calls go through, and the key that it was given.

A key lives in this process' memory only, for one browser tab; NiceGUI drops what a tab has not used
for 30 days, closing the tab alone does not. Knows nothing of how a key is checked, or of what a page shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nicegui import app, ui
from nicegui.client import ClientConnectionTimeout

from corral.client import AsyncConnection

# The client of a session by its key, which is empty where none was asked for.
Clients = Callable[[str], AsyncConnection]

_KEY = "key"


@dataclass(frozen=True)
class Sessions:
    """Gives each page its client."""

    clients: Clients
    # Whether nothing may be done without a key.
    needs_key: bool = False

    async def client(self) -> AsyncConnection:
        """The client of the page that is being built, once the browser has connected; asks for a
        key where one is needed and this tab has given none yet.
        """
        page = ui.context.client
        await page.connected()
        if page.is_deleted:
            # Nobody ever connected: a program that only fetched the page. NiceGUI ends it quietly.
            raise ClientConnectionTimeout(page)
        key = str(app.storage.tab.get(_KEY, ""))
        if not key and self.needs_key:
            key = await _asked_for_key()
            app.storage.tab[_KEY] = key
        return self.clients(key)

    def forget_key(self) -> None:
        """The next page asks again."""
        app.storage.tab.pop(_KEY, None)


async def _asked_for_key() -> str:
    with ui.dialog().props("persistent") as dialog, ui.element("div").classes("card"):
        ui.label("This server asks for an API key").props("role=heading aria-level=2")
        given = ui.input("API key", password=True).props("outlined autofocus autocomplete=off")
        given.on("keydown.enter", lambda: dialog.submit(given.value))
        ui.label("It is kept for this tab, in the server's memory, and stored nowhere.").classes(
            "muted small"
        )
        ui.button("Go on", color=None, on_click=lambda: dialog.submit(given.value)).classes(
            "btn primary"
        )
    key = ""
    while not key:
        key = str(await dialog or "").strip()
    dialog.delete()
    return key
