"""Ending asyncio tasks for certain. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.1


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when they have ended, whatever with.

    Cancels again where once was not enough: until Python 3.12 `asyncio.wait_for`, which redis-py
    sends with, swallows a cancellation that comes in the moment in which its work is done.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        for task in done:
            # Asked for, or asyncio reports it as never looked at.
            if not task.cancelled():
                task.exception()
