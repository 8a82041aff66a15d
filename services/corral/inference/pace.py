"""How long answers take, for telling those who find the queue full when to come again.

Knows nothing of requests.
"""

from __future__ import annotations


class Pace:
    """A running mean of seconds an answer, of so many at a time."""

    # Of the newest answer in the running mean.
    _WEIGHT = 0.2

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seconds = 5.0

    def note(self, seconds: float) -> None:
        self._seconds += self._WEIGHT * (seconds - self._seconds)

    def seconds_until_free(self, open_requests: int) -> float:
        """About when one of the requests that are open now will have ended."""
        return max(1.0, self._seconds * max(1, open_requests - self._slots) / self._slots)
