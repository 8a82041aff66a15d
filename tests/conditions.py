"""Waiting for a condition instead of sleeping for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

_PAUSE_SECONDS = 0.02


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The condition's value once it is true. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {condition}"
        time.sleep(_PAUSE_SECONDS)
    return value


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """`wait_for` in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {condition}"
        await asyncio.sleep(_PAUSE_SECONDS / 4)
    return value
