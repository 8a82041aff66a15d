"""Answers take turns: none waits for another's end, none breaks another."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from corral.errors import BusyError, InvalidRequestError, UnavailableError
from corral.generation.answers import Finish, FinishReason, Piece
from corral.generation.loading import LoadedModel
from corral.inference.engine import Answered, Engine
from corral.sampling import SamplingOptions

NO_MODEL = cast(LoadedModel, None)
SECONDS = 10


class Counting:
    """An answer of `prompt_ids[0]` pieces; each step may be watched or fail."""

    def __init__(
        self, tokens: int, on_step: Callable[[int], None], name: str, log: list[str]
    ) -> None:
        self.completion_tokens = 0
        self.finished = False
        self._tokens = tokens
        self._on_step = on_step
        self._name = name
        self._log = log

    def step(self) -> list[Piece | Finish]:
        self._on_step(self.completion_tokens)
        self._log.append(self._name)
        self.completion_tokens += 1
        piece = Piece(f"{self._name}{self.completion_tokens} ")
        self.finished = self.completion_tokens == self._tokens
        if not self.finished:
            return [piece]
        return [piece, Finish(FinishReason.LENGTH, 1, self.completion_tokens)]


class Desk:
    """Begins Counting answers, named by their seed's letter, and keeps what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.begun: list[weakref.ref[Counting]] = []
        self.on_step: dict[str, Callable[[int], None]] = {}

    def begin(
        self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
    ) -> Counting:
        if not prompt_ids:
            raise InvalidRequestError("The prompt is empty.")
        name = chr(options.seed or 97)
        steps = Counting(prompt_ids[0], self.on_step.get(name, lambda at: None), name, self.log)
        self.begun.append(weakref.ref(steps))
        return steps


@asynccontextmanager
async def running(desk: Desk, slots: int = 8, waiting: int = 8) -> AsyncIterator[Engine]:
    engine = Engine(desk.begin, slots=slots, waiting=waiting)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


async def ask(engine: Engine, name: str, tokens: int) -> tuple[str, Answered]:
    text, end = "", None
    options = SamplingOptions(seed=ord(name))
    async for output in engine.submit(NO_MODEL, [tokens], options):
        if isinstance(output, Answered):
            end = output
        else:
            text += output.text
    assert end is not None
    return text, end


async def test_an_answer_comes_in_order_and_ends_with_its_figures() -> None:
    async with running(Desk()) as engine:
        text, end = await ask(engine, "a", 3)
    assert text == "a1 a2 a3 "
    assert end.finish == Finish(FinishReason.LENGTH, 1, 3)
    assert end.first_token_at <= end.last_token_at


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


async def begun(desk: Desk, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(desk.begun) < count:  # noqa: ASYNC110 - the engine knows no Event of ours
            await asyncio.sleep(0)


async def test_two_answers_take_turns_token_by_token() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk) as engine:
        first = asyncio.create_task(ask(engine, "a", 4))
        await reached(gate)
        second = asyncio.create_task(ask(engine, "b", 4))
        await begun(desk, 2)
        gate.opened.set()
        await asyncio.gather(first, second)
    # The newcomer gets in line behind the one that has just had its first turn.
    assert "".join(desk.log) == "aabababb"


async def test_an_error_in_one_answer_is_that_answers_alone() -> None:
    def fail(at: int) -> None:
        if at == 2:
            raise ValueError("boom")

    desk = Desk()
    desk.on_step["b"] = fail
    async with running(desk) as engine:
        good, bad = await asyncio.gather(
            ask(engine, "a", 6), ask(engine, "b", 6), return_exceptions=True
        )
        again, _ = await ask(engine, "c", 1)
    assert isinstance(bad, ValueError)
    assert not isinstance(good, BaseException)
    assert good[0] == "a1 a2 a3 a4 a5 a6 "
    assert again == "c1 "


async def test_a_prompt_that_is_refused_costs_no_step() -> None:
    desk = Desk()
    async with running(desk) as engine:
        with pytest.raises(InvalidRequestError):
            await anext(engine.submit(NO_MODEL, [], SamplingOptions()))
    assert desk.log == []


async def test_an_answer_whose_reader_has_gone_is_freed() -> None:
    desk = Desk()
    async with running(desk) as engine:
        async with aclosing(engine.submit(NO_MODEL, [10**9], SamplingOptions())) as outputs:
            await anext(outputs)
        async with asyncio.timeout(SECONDS):
            while desk.begun[0]() is not None:
                await asyncio.sleep(0)
                gc.collect()
        steps = len(desk.log)
        await ask(engine, "b", 3)
    assert desk.log[steps:] == ["b"] * 3


async def test_a_finished_answer_is_freed_while_nothing_else_happens() -> None:
    desk = Desk()
    async with running(desk) as engine:
        await ask(engine, "a", 2)
        async with asyncio.timeout(SECONDS):
            while desk.begun[0]() is not None:
                await asyncio.sleep(0)
                gc.collect()


async def test_one_more_than_may_wait_is_told_busy_and_the_rest_are_answered() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    async with running(desk, slots=1, waiting=1) as engine:
        first = asyncio.create_task(ask(engine, "a", 2))
        await reached(gate)
        second = asyncio.create_task(ask(engine, "b", 2))
        await begun(desk, 2)
        with pytest.raises(BusyError):
            await ask(engine, "c", 2)
        gate.opened.set()
        await asyncio.gather(first, second)
        await ask(engine, "d", 1)
    assert "".join(desk.log) == "aabbd"


async def test_closing_ends_what_is_unfinished_with_a_reason() -> None:
    desk, gate = Desk(), Gate()
    desk.on_step["a"] = gate
    engine = Engine(desk.begin, slots=1, waiting=1)
    unfinished = [asyncio.create_task(ask(engine, name, 10**9)) for name in "ab"]
    await reached(gate)
    gate.opened.set()
    await asyncio.to_thread(engine.close)
    results: list[Any] = await asyncio.gather(*unfinished, return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    with pytest.raises(UnavailableError):
        await ask(engine, "c", 1)
