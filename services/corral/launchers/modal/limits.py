"""What ends a container's work before the run is done: its time, its budget, another call, nobody.

Knows nothing of processes: whoever asks stops the run.
"""

from __future__ import annotations

import time
from pathlib import Path

from corral.launchers.modal.gpus import GpuChoice
from corral.launchers.modal.inside import this_call
from corral.launchers.modal.order import (
    BUDGET,
    FORGOTTEN,
    OWNER_NAME,
    STATUS_NAME,
    TIME_UP,
    Order,
    Owner,
    Span,
    Status,
    cost_of,
)

# Time to carry the last checkpoint before Modal's own timeout.
_CARRY_SECONDS = 60.0
# Of the budget, at most this share is set aside for saving.
_RESERVE_SHARE = 0.05
# Longer than it ever takes from the spawn to the note that it was spawned.
_FORGOTTEN_SECONDS = 600.0


class Limits:
    """Of one container, from when it is built on. `before` are the containers before it."""

    def __init__(self, mount: Path, order: Order, choice: GpuChoice) -> None:
        self._mount = mount
        self._order = order
        self._choice = choice
        self._began, self._started_at = time.time(), time.monotonic()
        self.before = _spans_before(mount / STATUS_NAME)

    def spans(self) -> tuple[Span, ...]:
        """All containers of the job, this one so far as the last."""
        seconds = time.monotonic() - self._started_at
        own = Span(self._order.attempt, str(self._choice), self._began, seconds)
        return (*self.before, own)

    def reason_to_end(self) -> str:
        """Why the run has to save and end now; empty while it may go on."""
        order = self._order
        passed = time.monotonic() - self._started_at
        spare = min(order.stop_seconds + _CARRY_SECONDS, order.timeout_seconds / 10)
        if passed >= order.timeout_seconds - spare:
            return TIME_UP
        if self._is_budget_spent():
            return BUDGET
        owner = Owner.read(self._mount / OWNER_NAME)
        if owner is not None and not owner.call and passed > _FORGOTTEN_SECONDS:
            return FORGOTTEN
        return ""

    def _is_budget_spent(self) -> bool:
        limit = self._order.max_cost
        cost = cost_of(self.spans(), self._order.rates)
        if limit is None or cost is None:
            return False
        reserve = self._order.rates[str(self._choice)] * self._order.stop_seconds
        return cost + min(reserve, limit * _RESERVE_SHARE) >= limit

    def is_superseded(self) -> bool:
        """Whether another call works for the job."""
        owner = Owner.read(self._mount / OWNER_NAME)
        if owner is None:
            return False
        call = this_call()
        is_other_call = bool(owner.call and call) and owner.call != call
        return owner.token != self._order.token or is_other_call


def _spans_before(path: Path) -> tuple[Span, ...]:
    status = Status.of_bytes(path.read_bytes()) if path.is_file() else None
    return status.spans if status is not None else ()
