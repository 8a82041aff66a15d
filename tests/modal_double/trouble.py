"""Trouble on demand: what a test scripts to go wrong, in the interface, in transfers and with calls.

Each method says what it does. What happens `times` times happens to the next ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from grpclib import Status
from tests.modal_double import calls as ends
from tests.modal_double.calls import Calls, FunctionCall
from tests.modal_double.containers import Container
from tests.modal_double.rpc import Caller, refused

_TOKEN_MESSAGES = {
    "bad": "Token ID is malformed or unknown",
    "expired": "Token has expired",
}


@dataclass
class _Scripted:
    name: str
    status: Status
    message: str
    times: int
    is_remembered: bool = False


class Faults:
    """What stands between a request and its answer. Containers have no token, and need none."""

    def __init__(self, token: tuple[str, str]) -> None:
        self._token = token
        self._rejection = ""
        self._refusals: list[_Scripted] = []
        self._losses: list[_Scripted] = []
        self._lost: dict[tuple[str, str], object] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._transfer_gate: asyncio.Event | None = None
        self._transfer_failures: dict[str, list[int]] = {"PUT": [], "GET": []}

    # ------------------------------------------------------------ scripting

    def reject_tokens(self, why: str = "bad") -> None:
        """Every client's request is answered UNAUTHENTICATED: "bad" or "expired"."""
        self._rejection = _TOKEN_MESSAGES[why]

    def accept_tokens(self) -> None:
        self._rejection = ""

    def fail_rpc(self, name: str, status: Status, message: str = "", times: int = 1) -> None:
        """The next calls of that name fail before anything happens.

        The client repeats UNKNOWN, INTERNAL, UNAVAILABLE, DEADLINE_EXCEEDED and CANCELLED three
        times by itself: 4 times fail a call for good.
        """
        self._refusals.append(_Scripted(name, status, message or f"{name} (scripted)", times))

    def lose_answer(self, name: str, times: int = 1, *, is_remembered: bool = True) -> None:
        """What the next calls ask for happens, and the answer is UNAVAILABLE.

        The client repeats the call with the same idempotency key: if it `is_remembered`, that
        gets the first one's answer; if not, it happens again.
        """
        message = f"{name}: the answer got lost (scripted)"
        self._losses.append(_Scripted(name, Status.UNAVAILABLE, message, times, is_remembered))

    def hold_rpc(self, name: str) -> asyncio.Event:
        """Calls of that name wait until the event is set."""
        return self._gates.setdefault(name, asyncio.Event())

    def fail_uploads(self, times: int = 1, status: int = 500) -> None:
        self._transfer_failures["PUT"] += [status] * times

    def fail_downloads(self, times: int = 1, status: int = 500) -> None:
        self._transfer_failures["GET"] += [status] * times

    def hold_transfers(self) -> asyncio.Event:
        """Uploads and downloads by HTTP wait until the event is set."""
        self._transfer_gate = asyncio.Event()
        return self._transfer_gate

    # ------------------------------------------------------------ asked on the way

    async def before(self, name: str, caller: Caller) -> object | None:
        if gate := self._gates.get(name):
            await gate.wait()
        if not caller.task_id:
            if self._rejection:
                raise refused(Status.UNAUTHENTICATED, self._rejection)
            if caller.token != self._token:
                raise refused(Status.UNAUTHENTICATED, _TOKEN_MESSAGES["bad"])
        if (refusal := _next(self._refusals, name)) is not None:
            raise refused(refusal.status, refusal.message)
        return self._lost.get((name, caller.key))

    async def after(self, name: str, caller: Caller, response: object) -> None:
        if (loss := _next(self._losses, name)) is not None:
            if loss.is_remembered:
                self._lost[(name, caller.key)] = response
            raise refused(loss.status, loss.message)

    async def transfer(self, verb: str) -> int | None:
        if self._transfer_gate is not None:
            await self._transfer_gate.wait()
        failures = self._transfer_failures[verb]
        return failures.pop(0) if failures else None


def _next(scripted: list[_Scripted], name: str) -> _Scripted | None:
    for one in scripted:
        if one.name == name:
            one.times -= 1
            if one.times == 0:
                scripted.remove(one)
            return one
    return None


class Trouble(Faults):
    """All of it: faults on the way, and what happens to calls."""

    def __init__(self, token: tuple[str, str], calls: Calls) -> None:
        super().__init__(token)
        self._calls = calls

    async def preempt(self, call_id: str) -> None:
        """Interrupt the container, kill it after the grace; return when it has ended.

        What the function returns meanwhile is not taken: the same input starts again.
        """
        _, container = await self._running(call_id)
        container.end(ends.PREEMPTED, self._calls.grace)
        await self._calls.wait_until(lambda: container.is_done)

    async def crash(self, call_id: str) -> None:
        """The machine is gone: no warning, no last sync. Return when the container has ended."""
        _, container = await self._running(call_id)
        container.end(ends.CRASHED, 0)
        await self._calls.wait_until(lambda: container.is_done)

    async def time_out(self, call_id: str) -> None:
        """The attempt's timeout is over now. Return when the container has ended."""
        _, container = await self._running(call_id)
        container.end(ends.TIMED_OUT, 0)
        await self._calls.wait_until(lambda: container.is_done)

    async def fail_internally(self, call_id: str) -> None:
        """The call ends with InternalFailure, wherever it is."""
        call, container = await self._running(call_id)
        container.end(ends.FAILED_INTERNALLY, 0)
        await call.finished.wait()

    def expire(self, call_id: str) -> None:
        """Modal keeps a result for a week: it is gone."""
        self._calls.calls[call_id].is_expired = True

    def hold_queue(self) -> None:
        """No container starts any more: calls wait for a GPU."""
        self._calls.is_open = False

    async def open_queue(self) -> None:
        self._calls.is_open = True
        await self._calls.change()

    def gpus_gone(self, *kinds: str) -> None:
        """No such GPU is free from now on: "H100" for all counts."""
        self._calls.gone_gpus |= set(kinds)

    async def gpus_back(self, *kinds: str) -> None:
        self._calls.gone_gpus -= set(kinds)
        await self._calls.change()

    async def _running(self, call_id: str) -> tuple[FunctionCall, Container]:
        call: Any = self._calls.calls[call_id]
        await self._calls.wait_until(lambda: call.container is not None or call.finished.is_set())
        assert call.container is not None, f"{call_id} has ended: {call.result}"
        return call, call.container
