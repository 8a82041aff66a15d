"""Whether a call that was lost is made again, and after how long. The one policy of every client.

Knows nothing of what is called, and does not wait by itself: code with an event loop waits another
way than code without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from corral.errors import CorralError, DeadlineError, HubUnavailableError, UnavailableError

# What is worth another try: the call or its answer did not come through.
LOST = (UnavailableError, DeadlineError)

# How long a watcher waits for a server that went away, and a creation for one that restarts.
PATIENCE_SECONDS = 120.0

# Before a watch goes on whose stream ended although its job did not.
ENDED_EARLY_SECONDS = 0.2

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


def delays(first: float, limit: float, factor: float = 2.0) -> Iterator[float]:
    """Seconds to wait before the first, second, ... new try; never ends."""
    delay = first
    while True:
        yield min(delay, limit)
        delay = min(delay * factor, limit)


class Patience:
    """Says how long to wait after each loss, until `seconds` have passed since the first of a row."""

    def __init__(
        self, seconds: float = PATIENCE_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._now = now
        self.renew()

    def renew(self) -> None:
        """Something came through: the next loss is the first of a row again."""
        # In a row.
        self.losses = 0
        self._give_up: float | None = None
        self._pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)

    def pause_after(self, error: CorralError) -> float:
        """Seconds to wait before the next try. Raises the error where another would not help."""
        # The hub's absence is the server's answer, not the server's own.
        if not isinstance(error, LOST) or isinstance(error, HubUnavailableError):
            raise error
        self.losses += 1
        now, pause = self._now(), next(self._pauses)
        if self._give_up is None:
            self._give_up = now + self._seconds
        if now + pause > self._give_up:
            raise error
        return pause
