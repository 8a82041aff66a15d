"""Who is answered when: requests wait in a bounded queue, get a slot, and are written in batches, one
for each model, that take turns step by step.

All computing is done by one thread; the event loop's side submits, reads and cancels. Knows nothing
of gRPC, of how models come into memory, or of how a step is computed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from corral.errors import BusyError, CorralError, UnavailableError
from corral.inference.pace import Pace
from corral.inference.requests import Answered, Answering, Ended, Output, Request, too_late
from corral.inference.writing import AnswerBatch, Writer
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel

_log = structlog.stdlib.get_logger(__name__)


class Begin(Protocol):
    """How an answer is begun; raises what is wrong with the prompt. `Generation` is one."""

    def __call__(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> Answering: ...


class Engine:
    """Writes up to `slots` answers at a time; `waiting` more requests wait for a slot. Of those, one of
    the model with the fewest answers in the making is next, and of one model's the first to come.

    `cache_budget` says how many bytes keys and values may take just now. Belongs to one event loop.
    `close` ends it.
    """

    def __init__(
        self,
        begin: Begin,
        open_batch: Callable[[LoadedModel], AnswerBatch],
        *,
        slots: int,
        waiting: int,
        cache_budget: Callable[[], int] = lambda: 2**62,
        on_end: Callable[[Ended], None] = lambda ended: None,
    ) -> None:
        self._begin = begin
        self._on_end = on_end
        self._slots = slots
        self._limit = slots + waiting
        self._pace = Pace(slots)
        # Requests that somebody reads; only the event loop's side counts.
        self._open = 0
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._closed = False
        self._writer = Writer(open_batch, slots, cache_budget)
        self._thread = threading.Thread(target=self._run, name="corral-engine", daemon=True)
        self._thread.start()

    async def submit(
        self,
        model: LoadedModel,
        prompt_ids: list[int],
        options: SamplingOptions,
        *,
        deadline: float | None = None,
    ) -> AsyncGenerator[Output]:
        """Pieces of text, then one Answered. Closing the iterator frees the answer within a step.

        `deadline`: of `time.monotonic`; an answer that is not complete then is a DeadlineError. Raises
        BusyError when too many wait already, and what `begin` or a step of this answer raises.
        """
        request = Request(model, deadline)
        try:
            self._check_room()
            request.answering = self._begin(model, prompt_ids, options)
            self._enqueue(request)
        except CorralError as error:
            request.outcome = error.code.lower()
            self._end(request)
            raise
        self._open += 1
        try:
            while True:
                output = await request.outputs.get()
                if isinstance(output, Exception):
                    request.outcome = _code_of(output)
                    raise output
                if isinstance(output, Answered):
                    request.outcome = output.finish.reason.value
                    request.finish = output.finish
                yield output
                if isinstance(output, Answered):
                    return
        finally:
            request.abandoned = True
            self._open -= 1
            self._end(request)

    @property
    def writing(self) -> int:
        """How many answers are in the making."""
        return self._open - self.waiting

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        with self._changed:
            return sum(not request.abandoned for request in self._waiting)

    @property
    def cache_bytes(self) -> int:
        """Bytes that keys and values take or may come to take."""
        return self._writer.cache_bytes

    @property
    def reserved_bytes(self) -> int:
        """Bytes of these that can't be given up for something else: those of answers in the making."""
        return self._writer.reserved_bytes

    def close(self) -> None:
        """End the thread after the step it is in; answers that are not finished are UnavailableError."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _check_room(self) -> None:
        if self._open >= self._limit:
            seconds = self._pace.seconds_until_free(self._open)
            raise BusyError(
                f"{self._open} answers are being written or wait for their turn.",
                f"Try again in about {seconds:.0f} s.",
            )

    def _enqueue(self, request: Request) -> None:
        with self._changed:
            if self._closed:
                raise _shutting_down()
            self._waiting.append(request)
            self._changed.notify()

    def _end(self, request: Request) -> None:
        now = time.monotonic()
        if request.finish is not None:
            self._pace.note(now - request.first_token_at)
        answering, finish = request.answering, request.finish
        self._on_end(
            Ended(
                outcome=request.outcome,
                submitted_at=request.submitted_at,
                first_token_at=request.first_token_at,
                ended_at=now,
                prompt_tokens=answering.prompt_tokens if answering else 0,
                cached_tokens=finish.cached_tokens if finish else 0,
                completion_tokens=answering.completion_tokens if answering else 0,
            )
        )

    # ------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        try:
            while self._admit():
                self._writer.step()
        except BaseException:
            _log.exception("the engine's thread ended")
            raise
        finally:
            self._refuse_all()

    def _admit(self) -> bool:
        """Sleep until there is something to do; False when it is to end."""
        self._writer.drop_hopeless()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._writer.active or self._waiting)
            self._drop_hopeless()
            while (chosen := self._writer.choose(self._waiting)) is not None:
                self._waiting.remove(chosen)
                self._writer.start(chosen)
            return not self._closed

    def _drop_hopeless(self) -> None:
        """Requests that nobody reads any more, or whose time is up."""
        now = time.monotonic()
        for request in [request for request in self._waiting if request.is_hopeless(now)]:
            self._waiting.remove(request)
            request.give(too_late())

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            unfinished = (*self._writer.active, *self._waiting)
            self._writer.active.clear()
            self._waiting.clear()
        for request in unfinished:
            request.give(_shutting_down())


def _code_of(error: Exception) -> str:
    return error.code.lower() if isinstance(error, CorralError) else CorralError.code.lower()


def _shutting_down() -> UnavailableError:
    return UnavailableError("The inference service is shutting down.", "Try again in a moment.")
