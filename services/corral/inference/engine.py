"""Whose turn it is: one thread gives every answer in the making one step after the other.

So no answer waits for another's end, and none can break another. The event loop's side submits and
reads; the thread's side computes. Knows nothing of gRPC, or of how models come into memory.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import structlog

from corral.errors import BusyError, UnavailableError
from corral.generation.answers import Finish, Piece
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel

_log = structlog.stdlib.get_logger(__name__)


class Steps(Protocol):
    """An answer in the making, as `corral.generation.generating.Generation` is one."""

    @property
    def completion_tokens(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    def step(self) -> list[Piece | Finish]: ...


class Begin(Protocol):
    """How an answer is begun; raises what is wrong with the prompt. `Generation` is one."""

    def __call__(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> Steps: ...


@dataclass(frozen=True)
class Answered:
    """The end of an answer. Times are seconds of `time.monotonic`."""

    finish: Finish
    first_token_at: float
    last_token_at: float


Output: TypeAlias = Piece | Answered


class Engine:
    """Answers up to `slots` requests in turns, one token each; `waiting` more wait for a slot, first
    come first served.

    Belongs to one event loop. `close` ends it.
    """

    def __init__(self, begin: Begin, *, slots: int, waiting: int) -> None:
        self._begin = begin
        self._slots = slots
        self._limit = slots + waiting
        # Requests that somebody reads; only the event loop's side counts.
        self._open = 0
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._closed = False
        # The thread's own.
        self._active: deque[_Request] = deque()
        self._thread = threading.Thread(target=self._run, name="corral-engine", daemon=True)
        self._thread.start()

    async def submit(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> AsyncGenerator[Output]:
        """Pieces of text, then one Answered. Closing the iterator frees the answer within a step.

        Raises BusyError when too many wait already, and what `begin` or a step of this answer
        raises.
        """
        if self._open >= self._limit:
            raise BusyError(
                f"{self._open} answers are being written or wait for their turn.",
                "Try again in a moment.",
            )
        request = _Request(self._begin(model, prompt_ids, options))
        self._enqueue(request)
        self._open += 1
        try:
            while True:
                output = await request.outputs.get()
                if isinstance(output, Exception):
                    raise output
                yield output
                if isinstance(output, Answered):
                    return
        finally:
            request.abandoned = True
            self._open -= 1

    @property
    def writing(self) -> int:
        """How many answers are in the making."""
        return self._open - self.waiting

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        with self._changed:
            return sum(not request.abandoned for request in self._waiting)

    def close(self) -> None:
        """End the thread after the step it is in; answers that are not finished are UnavailableError."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _enqueue(self, request: _Request) -> None:
        with self._changed:
            if self._closed:
                raise _shutting_down()
            self._waiting.append(request)
            self._changed.notify()

    # ------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        try:
            while self._fill_slots():
                self._give_turn()
        except BaseException:
            _log.exception("the engine's thread ended")
            raise
        finally:
            self._refuse_all()

    def _fill_slots(self) -> bool:
        """Sleep until there is something to do; False when it is to end."""
        self._active = deque(request for request in self._active if not request.abandoned)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._active or self._waiting)
            while self._waiting and len(self._active) < self._slots:
                self._active.append(self._waiting.popleft())
            return not self._closed

    def _give_turn(self) -> None:
        # No local of `_run`: it would keep the last answer's cache in memory while nothing happens.
        request = self._active.popleft()
        if not request.abandoned and request.take_turn():
            self._active.append(request)

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            unfinished = (*self._active, *self._waiting)
            self._active.clear()
            self._waiting.clear()
        for request in unfinished:
            request.give(_shutting_down())


class _Request:
    """One answer, where the two sides meet."""

    def __init__(self, steps: Steps) -> None:
        self.outputs: asyncio.Queue[Output | Exception] = asyncio.Queue()
        # Set when nobody reads any more.
        self.abandoned = False
        self._loop = asyncio.get_running_loop()
        self._steps = steps
        self._first_token_at = 0.0

    def take_turn(self) -> bool:
        """One step; whether another will follow. Its error is this answer's alone."""
        try:
            for output in self._steps.step():
                self.give(self._timed(output))
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets it, and nobody else
            self.give(error)
            return False
        if not self._first_token_at and self._steps.completion_tokens:
            self._first_token_at = time.monotonic()
        return not self._steps.finished

    def give(self, output: Output | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self.outputs.put_nowait, output)
        except RuntimeError:  # the event loop has closed: nobody is left who could read
            self.abandoned = True

    def _timed(self, output: Piece | Finish) -> Output:
        if not isinstance(output, Finish):
            return output
        now = time.monotonic()
        return Answered(output, self._first_token_at or now, now)


def _shutting_down() -> UnavailableError:
    return UnavailableError("The inference service is shutting down.", "Try again in a moment.")
