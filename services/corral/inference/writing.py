"""The batches, one for each model: which requests may start, whose step is next, and how many bytes
their keys and values take.

All of it is the engine's thread's own. Knows nothing of the queue that requests come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from corral.errors import BusyError
from corral.formatting import size as format_size
from corral.generation.answers import Finish
from corral.inference.requests import Answered, Request, StepOutputs, too_late

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel


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


class Writer:
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
        self.active: list[Request] = []
        # A batch, and the caches it keeps, live as long as somebody holds the model.
        self._batches: WeakKeyDictionary[LoadedModel, AnswerBatch] = WeakKeyDictionary()
        self.cache_bytes = 0
        self.reserved_bytes = 0

    def choose(self, waiting: Sequence[Request]) -> Request | None:
        """The request to start next, or None while there is no room for one."""
        if not waiting or len(self.active) >= self._slots:
            return None
        first_of_each: dict[LoadedModel, Request] = {}
        for request in waiting:
            first_of_each.setdefault(request.model, request)
        fewest = min(first_of_each, key=lambda model: len(self._batch(model)))
        chosen = first_of_each[fewest]
        return chosen if self._make_room(chosen) else None

    def start(self, request: Request) -> None:
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
            request.give(too_late())

    def _give(self, request: Request, outputs: StepOutputs) -> None:
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

    def _make_room(self, request: Request) -> bool:
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


def _too_large(needed: int, budget: int) -> BusyError:
    return BusyError(
        f"The answer's keys and values may take {format_size(needed)} of memory;"
        f" {format_size(max(budget, 0))} are free.",
        "Ask for fewer max_tokens, shorten the conversation, or raise CORRAL_INFERENCE_MEMORY (bytes).",
    )
