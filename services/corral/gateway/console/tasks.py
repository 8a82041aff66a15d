"""Work that lasts as long as a page is open, and not a moment longer.

Knows nothing of what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import background_tasks, ui
from nicegui.element import Element

from corral.errors import CorralError


def while_open(work: Coroutine[Any, Any, None], where: Element) -> asyncio.Task[None]:
    """Do something in the background, in the context of an element, until its page is closed."""
    client = where.client

    async def in_context() -> None:
        with where:
            await work

    task = background_tasks.create(in_context())
    client.on_delete(lambda: _cancel(task))
    return task


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class Debounced:
    """Does something once its causes have paused for a while; a newer cause cancels what an older
    one began.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], seconds: float, where: Element) -> None:
        self._work = work
        self._seconds = seconds
        self._where = where
        self._task: asyncio.Task[None] | None = None
        where.client.on_delete(self.cancel)

    def __call__(self) -> None:
        self.cancel()
        self._task = background_tasks.create(self._later())

    def cancel(self) -> None:
        """Do nothing any more, unless there is another cause."""
        if self._task is not None:
            self._task.cancel()

    async def _later(self) -> None:
        await asyncio.sleep(self._seconds)
        with self._where:
            await self._work()


@contextmanager
def telling_errors() -> Iterator[None]:
    """Within it, what a user can cause is told in a notification."""
    try:
        yield
    except CorralError as error:
        ui.notify(
            str(error), type="negative", multi_line=True, timeout=10_000, close_button="Close"
        )
