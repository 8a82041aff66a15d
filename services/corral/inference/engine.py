"""Who is answered when: requests wait in a bounded queue, get a slot, and are written in batches, one
for each model, that take turns step by step.

All computing is done by one thread; the event loop's side submits, reads and cancels. Knows nothing
of gRPC, of how models come into memory, or of how a step is computed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import structlog

from corral.errors import BusyError, CorralError, DeadlineError, UnavailableError
from corral.formatting import size as format_size
from corral.generation.answers import Finish, FinishReason, Piece
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel

_log = structlog.stdlib.get_logger(__name__)

# What one step made of one answer; an error ends it.
StepOutputs: TypeAlias = "Sequence[Piece | Finish] | Exception"


class Answering(Protocol):
    """An answer in the making, as `corral.generation.generating.Generation` is one."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


class AnswerBatch(Protocol):
    """The answers of one model, as `corral.generation.batch.Batch` is one. The engine's thread alone
    calls it, the two sizes aside.
    """

    def __len__(self) -> int: ...

    @property
    def reserved_bytes(self) -> int: ...

    @property
    def kept_bytes(self) -> int: ...

    def bytes_for(self, generation: Any) -> int: ...

    def drop_oldest(self) -> bool: ...

    def join(self, generation: Any) -> None: ...

    def leave(self, generation: Any) -> None: ...

    def step(self) -> Sequence[tuple[Any, StepOutputs]]: ...


class Begin(Protocol):
    """How an answer is begun; raises what is wrong with the prompt. `Generation` is one."""

    def __call__(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> Answering: ...


@dataclass(frozen=True)
class Answered:
    """The end of an answer. Times are seconds of `time.monotonic`."""

    finish: Finish
    first_token_at: float
    last_token_at: float


Output: TypeAlias = Piece | Answered


@dataclass(frozen=True)
class Ended:
    """What became of a request: exactly one for each. `outcome` is a finish reason, or an error's code
    in lower case. Times as in Answered; `first_token_at` is 0 where there was no token.
    """

    outcome: str
    submitted_at: float
    first_token_at: float
    ended_at: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


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
        self._pace = _Pace(slots)
        # Requests that somebody reads; only the event loop's side counts.
        self._open = 0
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._closed = False
        self._writer = _Writer(open_batch, slots, cache_budget)
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
        request = _Request(model, deadline)
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

    def _enqueue(self, request: _Request) -> None:
        with self._changed:
            if self._closed:
                raise _shutting_down()
            self._waiting.append(request)
            self._changed.notify()

    def _end(self, request: _Request) -> None:
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
            request.give(_too_late())

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            unfinished = (*self._writer.active, *self._waiting)
            self._writer.active.clear()
            self._waiting.clear()
        for request in unfinished:
            request.give(_shutting_down())


class _Writer:
    """The engine's batches: which requests may start, and whose step is next. The thread's own."""

    def __init__(
        self,
        open_batch: Callable[[LoadedModel], AnswerBatch],
        slots: int,
        cache_budget: Callable[[], int],
    ) -> None:
        self._open_batch = open_batch
        self._slots = slots
        self._cache_budget = cache_budget
        self.active: list[_Request] = []
        # A batch, and the caches it keeps, live as long as somebody holds the model.
        self._batches: WeakKeyDictionary[LoadedModel, AnswerBatch] = WeakKeyDictionary()
        self.cache_bytes = 0
        self.reserved_bytes = 0

    def choose(self, waiting: Sequence[_Request]) -> _Request | None:
        """The request to start next, or None while there is no room for one."""
        if not waiting or len(self.active) >= self._slots:
            return None
        first_of_each: dict[LoadedModel, _Request] = {}
        for request in waiting:
            first_of_each.setdefault(request.model, request)
        fewest = min(first_of_each, key=lambda model: len(self._batch(model)))
        chosen = first_of_each[fewest]
        return chosen if self._make_room(chosen) else None

    def start(self, request: _Request) -> None:
        """Let a request that was chosen join its model's batch."""
        try:
            self._batch(request.model).join(request.answering)
            self.active.append(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets it, and nobody else
            request.give(error)
        self._count_bytes()

    def step(self) -> None:
        """One step of every model that has answers in the making."""
        by_answer = {id(request.answering): request for request in self.active}
        for model in {request.model: None for request in self.active}:
            for answering, outputs in self._batch(model).step():
                self._give(by_answer[id(answering)], outputs)
        self._count_bytes()

    def drop_hopeless(self) -> None:
        """Free the slots of those that nobody reads any more, or whose time is up."""
        now = time.monotonic()
        for request in [request for request in self.active if request.is_hopeless(now)]:
            self._batch(request.model).leave(request.answering)
            self.active.remove(request)
            request.give(_too_late())

    def _give(self, request: _Request, outputs: StepOutputs) -> None:
        if isinstance(outputs, Exception):
            request.give(outputs)
            self.active.remove(request)
            return
        now = time.monotonic()
        request.first_token_at = request.first_token_at or now
        for output in outputs:
            if isinstance(output, Finish):
                request.give(Answered(output, request.first_token_at, now))
                self.active.remove(request)
            else:
                request.give(output)

    def _make_room(self, request: _Request) -> bool:
        """Whether the request's cache fits; caches of ended answers give way, its own model's last."""
        budget = self._cache_budget()
        needed = self._batch(request.model).bytes_for(request.answering)
        if self._reserved() + needed > budget:
            if not self.active:
                request.give(_too_large(needed, budget))
                request.abandoned = True
            return False
        own = self._batch(request.model)
        others = [batch for batch in self._batches.values() if batch is not own]
        for batch in (*others, own):
            while self._reserved() + needed + self._kept() > budget and batch.drop_oldest():
                pass
        return True

    def _batch(self, model: LoadedModel) -> AnswerBatch:
        if model not in self._batches:
            self._batches[model] = self._open_batch(model)
        return self._batches[model]

    def _reserved(self) -> int:
        return sum(batch.reserved_bytes for batch in self._batches.values())

    def _kept(self) -> int:
        return sum(batch.kept_bytes for batch in self._batches.values())

    def _count_bytes(self) -> None:
        self.reserved_bytes = self._reserved()
        self.cache_bytes = self.reserved_bytes + self._kept()


@dataclass(eq=False)
class _Request:
    """One request, where the two sides meet."""

    model: LoadedModel
    # Of `time.monotonic`.
    until: float | None
    answering: Any = None
    outputs: asyncio.Queue[Output | Exception] = field(default_factory=asyncio.Queue)
    # Set when nobody reads any more.
    abandoned: bool = False
    submitted_at: float = field(default_factory=time.monotonic)
    first_token_at: float = 0.0
    finish: Finish | None = None
    outcome: str = FinishReason.CANCELLED.value
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def is_hopeless(self, now: float) -> bool:
        """Whether nobody would see its answer."""
        return self.abandoned or (self.until is not None and self.until < now)

    def give(self, output: Output | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self.outputs.put_nowait, output)
        except RuntimeError:  # the event loop has closed: nobody is left who could read
            self.abandoned = True


class _Pace:
    """How long answers take, for telling those who find the queue full when to come again."""

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


def _code_of(error: Exception) -> str:
    return error.code.lower() if isinstance(error, CorralError) else CorralError.code.lower()


def _too_large(needed: int, budget: int) -> BusyError:
    return BusyError(
        f"The answer's keys and values may take {format_size(needed)} of memory;"
        f" {format_size(max(budget, 0))} are free.",
        "Ask for fewer max_tokens, shorten the conversation, or raise CORRAL_INFERENCE_MEMORY (bytes).",
    )


def _too_late() -> DeadlineError:
    return DeadlineError(
        "The request's time was up before its answer was complete.",
        "Allow more time, or ask for fewer max_tokens.",
    )


def _shutting_down() -> UnavailableError:
    return UnavailableError("The inference service is shutting down.", "Try again in a moment.")
