"""Function calls: an input waits for a GPU, runs in a container, and runs again where Modal would.

A container that was preempted, or that died with its machine, is followed by another one with the same
input, as often as it happens. What the function raises, and what runs into its timeout, counts as a
failure, and is repeated as often as the function's retry policy says. Knows nothing of the
interface; `Worker` makes the containers.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.containers import Container
from tests.modal_double.rpc import refused

if TYPE_CHECKING:
    from tests.modal_double.functions import Function

Result = api_pb2.GenericResult

PREEMPTED = "preempted"
CRASHED = "crashed"
TIMED_OUT = "timed out"
CANCELLED = "cancelled"
FAILED_INTERNALLY = "failed internally"


@dataclass
class FunctionCall:
    """One call of a deployed function. `state` is queued, running or done."""

    id: str
    function: Function
    input: bytes = b""
    has_input: bool = False
    containers: list[Container] = field(default_factory=list)
    failures: int = 0
    result: Result | None = None
    is_expired: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def input_id(self) -> str:
        return self.id.replace("fc-", "in-")

    @property
    def state(self) -> str:
        if self.finished.is_set():
            return "done"
        return "running" if self.container else "queued"

    @property
    def container(self) -> Container | None:
        """The one that runs now."""
        last = self.containers[-1] if self.containers else None
        return last if last and not last.is_done else None

    @property
    def attempts(self) -> int:
        return len(self.containers)

    @property
    def gpus_asked(self) -> list[str]:
        return self.function.gpus

    @property
    def gpus_got(self) -> list[str]:
        """One for each attempt."""
        return [container.start.gpu for container in self.containers]

    @property
    def log(self) -> str:
        """What all its containers printed."""
        return "".join(container.log for container in self.containers)

    def finish(self, result: Result) -> None:
        """The first result stands."""
        if self.result is None:
            self.result = result
            self.finished.set()


class Worker(Protocol):
    """Starts containers."""

    async def launch(self, call: FunctionCall, definition: api_pb2.Function) -> Container: ...


class Calls:
    """All function calls (`calls`, by id), and the queue before the GPUs.

    `grace` is how long an interrupted container lives, `longest_delay` what a retry waits at most
    whatever its policy says, both in seconds. With `cancels_at_once` a cancelled call has its
    result while its container still runs out its grace.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()
        self.calls: dict[str, FunctionCall] = {}
        self.broken: list[BaseException] = []
        self.is_open = True
        self.gone_gpus: set[str] = set()
        self.grace = 1.0
        self.longest_delay = 0.05
        self.cancels_at_once = False

    def by_id(self, call_id: str) -> FunctionCall:
        if call_id not in self.calls:
            raise refused(Status.NOT_FOUND, f"Function call {call_id} not found")
        return self.calls[call_id]

    def new(self, function: Function) -> FunctionCall:
        call = FunctionCall(f"fc-{uuid4().hex[:22]}", function)
        self.calls[call.id] = call
        return call

    def run(self, call: FunctionCall, arguments: bytes) -> None:
        """Give it its input; from here it takes its course."""
        call.input = arguments
        call.has_input = True
        task = asyncio.create_task(self._run(call))
        self._tasks[call.id] = task
        task.add_done_callback(lambda task: self._note(call, task))

    async def cancel(self, call: FunctionCall, *, terminate: bool) -> None:
        """Whatever it does now, it ends cancelled."""
        if call.finished.is_set():
            return
        if call.container is not None:
            call.container.end(CANCELLED, self.grace if terminate else None)
            if self.cancels_at_once:
                call.finish(_cancelled())
        else:
            call.finish(_cancelled())
            if call.id in self._tasks:
                self._tasks[call.id].cancel()
        await self.change()

    async def change(self) -> None:
        """Something that the queue waits for may have changed."""
        async with self._changed:
            self._changed.notify_all()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a call's state: it is looked at whenever one changes."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def end_all(self) -> None:
        """Kill every container, and wait for them."""
        for call in self.calls.values():
            if call.container is not None:
                call.container.end(CANCELLED, 0)
            elif call.id in self._tasks:
                self._tasks[call.id].cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _note(self, call: FunctionCall, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.broken.append(fault)
            call.finish(_failed_internally(f"the double is broken: {fault!r}"))

    # ------------------------------------------------------------ the course of a call

    async def _run(self, call: FunctionCall) -> None:
        while call.result is None:
            definition = await self._placed(call)
            # A cancelled task must not leave a container that nobody knows.
            launching = asyncio.ensure_future(self._worker.launch(call, definition))
            try:
                container = await asyncio.shield(launching)
            except asyncio.CancelledError:
                (await launching).end(CANCELLED, 0)
                await (await launching).finished()
                raise
            call.containers.append(container)
            await self.change()
            await self._watch(container, definition.timeout_secs)
            result = _outcome(container)
            if result is not None and not self._may_retry(call, result, definition):
                call.finish(result)
            elif result is not None:
                call.failures += 1
                await asyncio.sleep(self._delay(call, definition))
            await self.change()

    async def _placed(self, call: FunctionCall) -> api_pb2.Function:
        """The definition whose GPU is there, first in the function's order."""
        found: list[api_pb2.Function] = []

        def is_placed() -> bool:
            for definition in call.function.ranked:
                if self.is_open and _kind(definition) not in self.gone_gpus:
                    found.append(definition)
                    return True
            return False

        await self.wait_until(is_placed)
        return found[0]

    async def _watch(self, container: Container, limit: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(container.process.wait(), limit or None)
        if container.process.returncode is None:
            container.end(TIMED_OUT, 0)
        await container.finished()

    def _may_retry(self, call: FunctionCall, result: Result, definition: api_pb2.Function) -> bool:
        failed = (Result.GENERIC_STATUS_FAILURE, Result.GENERIC_STATUS_TIMEOUT)
        return result.status in failed and call.failures < definition.retry_policy.retries

    def _delay(self, call: FunctionCall, definition: api_pb2.Function) -> float:
        policy = definition.retry_policy
        delay = policy.initial_delay_ms * policy.backoff_coefficient ** (call.failures - 1)
        return min(delay / 1000, self.longest_delay)


def _kind(definition: api_pb2.Function) -> str:
    return definition.resources.gpu_config.gpu_type


def _outcome(container: Container) -> Result | None:
    """What comes of a container that has ended; None: the same input starts again."""
    if container.ended_by in (PREEMPTED, CRASHED):
        return None
    if container.ended_by == CANCELLED:
        return _cancelled()
    if container.ended_by == TIMED_OUT:
        return Result(
            status=Result.GENERIC_STATUS_TIMEOUT, exception="Task's current input hit its timeout"
        )
    if container.ended_by == FAILED_INTERNALLY:
        return _failed_internally("internal failure (scripted)")
    returned = container.result()
    if returned is None:
        code = container.process.returncode
        return Result(
            status=Result.GENERIC_STATUS_FAILURE, exception=f"Container exited with code {code}"
        )
    if returned[0] == "value":
        return Result(status=Result.GENERIC_STATUS_SUCCESS, data=pickle.dumps(returned[1]))
    return Result(
        status=Result.GENERIC_STATUS_FAILURE,
        data=pickle.dumps(returned[1]),
        exception=repr(returned[1]),
        traceback=returned[2],
    )


def _cancelled() -> Result:
    return Result(status=Result.GENERIC_STATUS_TERMINATED, exception="Input was cancelled by user")


def _failed_internally(why: str) -> Result:
    return Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=why)
