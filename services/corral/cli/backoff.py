"""How long to wait before trying again: longer each time, up to a limit.

Knows nothing of what is tried.
"""

from __future__ import annotations

from collections.abc import Iterator


def delays(first: float, limit: float, factor: float = 2.0) -> Iterator[float]:
    """Seconds to wait before the first, second, ... new try; never ends."""
    delay = first
    while True:
        yield min(delay, limit)
        delay = min(delay * factor, limit)
