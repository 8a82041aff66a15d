"""Waiting for a condition instead of sleeping for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
    """Return once the condition holds; fail where it does not within the deadline."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not condition():
        assert time.monotonic() < deadline, f"{what or condition} did not hold in {seconds} s"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
