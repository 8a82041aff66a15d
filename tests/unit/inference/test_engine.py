"""Requests wait, are written in batches that take turns, and end in exactly one way each."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from corral.errors import BusyError, DeadlineError, InvalidRequestError, UnavailableError
from corral.generation.answers import Finish, FinishReason, Piece
from corral.generation.loading import LoadedModel
from corral.inference.engine import Engine
from corral.inference.requests import Answered, Ended, StepOutputs
from corral.sampling import SamplingOptions

SECONDS = 10


class Model:
    """Stands for loaded weights: the engine only tells one from another."""


class Counting:
    """An answer of `prompt_ids[0]` pieces; each step may be watched or fail."""

    def __init__(self, tokens: int, on_step: Callable[[int], None], name: str) -> None:
        self.prompt_tokens = 1
        self.completion_tokens = 0
        self.name = name
        self._tokens = tokens
        self._on_step = on_step

    @property
    def bytes(self) -> int:
        return self._tokens

    def step(self) -> Sequence[Piece | Finish]:
        self._on_step(self.completion_tokens)
        self.completion_tokens += 1
        piece = Piece(f"{self.name}{self.completion_tokens} ")
        if self.completion_tokens < self._tokens:
            return [piece]
        return [piece, Finish(FinishReason.LENGTH, 1, self.completion_tokens)]


class CountingBatch:
    """The batch of one model: each answer takes a byte for each of its tokens."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._answers: list[Counting] = []
        self.kept: list[int] = []

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def reserved_bytes(self) -> int:
        return sum(answer.bytes for answer in self._answers)

    @property
    def kept_bytes(self) -> int:
        return sum(self.kept)

    def bytes_for(self, answer: Counting) -> int:
        return answer.bytes

    def drop_oldest(self) -> bool:
        if not self.kept:
            return False
        self.kept.pop(0)
        return True

    def join(self, answer: Counting) -> None:
        self._answers.append(answer)

    def leave(self, answer: Counting) -> None:
        self._answers.remove(answer)
        self.kept.append(answer.bytes)

    def step(self) -> list[tuple[Counting, StepOutputs]]:
        self._log.append("".join(answer.name for answer in self._answers))
        return [(answer, self._step(answer)) for answer in list(self._answers)]

    def _step(self, answer: Counting) -> StepOutputs:
        try:
            outputs = answer.step()
        except ValueError as error:
            self._answers.remove(answer)
            return error
        if isinstance(outputs[-1], Finish):
            self.leave(answer)
        return outputs


class Desk:
    """Begins Counting answers, named by their seed's letter, and keeps what happened."""

    def __init__(self) -> None:
        # The names of the answers in each step, and what became of each request.
        self.log: list[str] = []
        self.ended: list[Ended] = []
        self.begun: list[weakref.ref[Counting]] = []
        self.batches: list[CountingBatch] = []
        self.on_step: dict[str, Callable[[int], None]] = {}
        self.model = Model()

    def begin(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> Counting:
        if not prompt_ids:
            raise InvalidRequestError("The prompt is empty.")
        name = chr(options.seed or 97)
        answer = Counting(prompt_ids[0], self.on_step.get(name, lambda at: None), name)
        self.begun.append(weakref.ref(answer))
        return answer

    def open_batch(self, model: LoadedModel) -> CountingBatch:
        self.batches.append(CountingBatch(self.log))
        return self.batches[-1]


@asynccontextmanager
async def running(
    desk: Desk, slots: int = 8, waiting: int = 8, **more: Any
) -> AsyncIterator[Engine]:
    engine = Engine(
        desk.begin,
        desk.open_batch,
        slots=slots,
        waiting=waiting,
        on_end=desk.ended.append,
        **more,
    )
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


async def ask(
    engine: Engine, desk: Desk, name: str, tokens: int, model: Model | None = None
) -> tuple[str, Answered]:
    text, end = "", None
    options = SamplingOptions(seed=ord(name))
    async for output in engine.submit(cast(LoadedModel, model or desk.model), [tokens], options):
        if isinstance(output, Answered):
            end = output
        else:
            text += output.text
    assert end is not None
    return text, end


class Gate:
    """Holds an answer's first step until it is opened, so that others can get in line."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, at: int) -> None:
        if at == 0:
            self.reached.set()
            assert self.opened.wait(SECONDS)


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, SECONDS)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)
            gc.collect()


async def test_an_answer_comes_in_order_and_ends_with_its_figures() -> None:
    desk = Desk()
    async with running(desk) as engine:
        text, end = await ask(engine, desk, "a", 3)
    assert text == "a1 a2 a3 "
    assert end.finish == Finish(FinishReason.LENGTH, 1, 3)
    assert end.first_token_at <= end.last_token_at
    (ended,) = desk.ended
    assert (ended.outcome, ended.prompt_tokens, ended.completion_tokens) == ("length", 1, 3)


async def test_a_newcomer_joins_the_others_at_the_next_step() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk) as engine:
        first = asyncio.create_task(ask(engine, desk, "a", 3))
        await reached(gate)
        second = asyncio.create_task(ask(engine, desk, "b", 3))
        await until(lambda: engine.waiting == 1)
        gate.opened.set()
        await asyncio.gather(first, second)
    assert desk.log == ["a", "ab", "ab", "b"]


async def test_models_take_turns_step_by_step() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk) as engine:
        first = asyncio.create_task(ask(engine, desk, "a", 3))
        await reached(gate)
        second = asyncio.create_task(ask(engine, desk, "b", 3, Model()))
        await until(lambda: engine.waiting == 1)
        gate.opened.set()
        await asyncio.gather(first, second)
    assert desk.log == ["a", "a", "b", "a", "b", "b"]


async def test_a_model_with_many_requests_does_not_keep_another_waiting() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    other = Model()
    async with running(desk, slots=2) as engine:
        asked = [asyncio.create_task(ask(engine, desk, "a", 2))]
        await reached(gate)
        for name, model in (("b", None), ("c", None), ("z", other)):
            asked.append(asyncio.create_task(ask(engine, desk, name, 2, model)))
            await until(lambda: engine.waiting == len(asked) - 1)
        gate.opened.set()
        await asyncio.gather(*asked)
    # z came last, and is the next one to get a slot.
    assert desk.log.index("z") < desk.log.index("b")


async def test_an_error_in_one_answer_is_that_answers_alone() -> None:
    def fail(at: int) -> None:
        if at == 2:
            raise ValueError("boom")

    desk = Desk()
    desk.on_step["b"] = fail
    async with running(desk) as engine:
        good, bad = await asyncio.gather(
            ask(engine, desk, "a", 6), ask(engine, desk, "b", 6), return_exceptions=True
        )
        again, _ = await ask(engine, desk, "c", 1)
    assert isinstance(bad, ValueError)
    assert not isinstance(good, BaseException)
    assert good[0] == "a1 a2 a3 a4 a5 a6 "
    assert again == "c1 "
    assert sorted(ended.outcome for ended in desk.ended) == ["internal", "length", "length"]


async def test_a_prompt_that_is_refused_costs_no_step() -> None:
    desk = Desk()
    async with running(desk) as engine:
        with pytest.raises(InvalidRequestError):
            await anext(engine.submit(cast(LoadedModel, desk.model), [], SamplingOptions()))
    assert desk.log == []
    assert [ended.outcome for ended in desk.ended] == ["invalid_request"]


async def test_an_answer_whose_reader_has_gone_is_freed() -> None:
    desk = Desk()
    async with running(desk) as engine:
        endless = engine.submit(cast(LoadedModel, desk.model), [10**9], SamplingOptions())
        async with aclosing(endless) as outputs:
            await anext(outputs)
        await until(lambda: desk.begun[0]() is None)
        steps = len(desk.log)
        await ask(engine, desk, "b", 3)
    assert desk.log[steps:] == ["b"] * 3
    assert [ended.outcome for ended in desk.ended] == ["cancelled", "length"]


async def test_a_finished_answer_is_freed_while_nothing_else_happens() -> None:
    desk = Desk()
    async with running(desk) as engine:
        await ask(engine, desk, "a", 2)
        await until(lambda: desk.begun[0]() is None)


async def test_a_batch_and_what_it_keeps_is_freed_with_its_model() -> None:
    desk = Desk()
    async with running(desk) as engine:
        await ask(engine, desk, "a", 2, Model())
        batch = weakref.ref(desk.batches.pop())
        await until(lambda: batch() is None)


async def test_one_more_than_may_wait_is_told_when_to_come_again() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk, slots=1, waiting=1) as engine:
        first = asyncio.create_task(ask(engine, desk, "a", 2))
        await reached(gate)
        second = asyncio.create_task(ask(engine, desk, "b", 2))
        await until(lambda: engine.waiting == 1)
        with pytest.raises(BusyError) as refused:
            await ask(engine, desk, "c", 2)
        gate.opened.set()
        await asyncio.gather(first, second)
        await ask(engine, desk, "d", 1)
    assert desk.log == ["a", "a", "b", "b", "d"]
    assert "in about" in refused.value.hint


async def test_a_request_whose_time_is_up_leaves_the_queue() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk, slots=1) as engine:
        first = asyncio.create_task(ask(engine, desk, "a", 2))
        await reached(gate)
        late = engine.submit(
            cast(LoadedModel, desk.model), [5], SamplingOptions(), deadline=time.monotonic()
        )
        waiting = asyncio.ensure_future(anext(late))
        await until(lambda: engine.waiting == 1)
        gate.opened.set()
        with pytest.raises(DeadlineError):
            await waiting
        await first
    assert desk.log == ["a", "a"]


async def test_answers_wait_for_memory_and_kept_caches_give_way() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk, cache_budget=lambda: 10) as engine:
        await ask(engine, desk, "k", 4)
        first = asyncio.create_task(ask(engine, desk, "a", 6))
        await reached(gate)
        second = asyncio.create_task(ask(engine, desk, "b", 5))
        await until(lambda: engine.waiting == 1)
        gate.opened.set()
        await asyncio.gather(first, second)
        with pytest.raises(BusyError, match="11 B"):
            await ask(engine, desk, "c", 11)
    # b did not fit beside a; a had fitted beside what k left.
    assert desk.log[4:] == ["a"] * 6 + ["b"] * 5
    assert desk.batches[0].kept_bytes <= 10


async def test_closing_ends_what_is_unfinished_with_a_reason() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    engine = Engine(desk.begin, desk.open_batch, slots=1, waiting=1)
    unfinished = [asyncio.create_task(ask(engine, desk, name, 10**9)) for name in "ab"]
    await reached(gate)
    gate.opened.set()
    await asyncio.to_thread(engine.close)
    results: list[Any] = await asyncio.gather(*unfinished, return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    with pytest.raises(UnavailableError):
        await ask(engine, desk, "c", 1)
