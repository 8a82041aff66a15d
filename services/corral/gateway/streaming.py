"""Answers that end when their client goes away, and events as a browser and OpenAI's clients read them.

Knows nothing of what is streamed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.errors import CorralError
from corral.gateway.errors import ErrorResponse, info_of, unforeseen

DONE = "data: [DONE]\n\n"
# The seconds that OpenAI's own clients wait for an answer.
_PATIENCE_HEADER = "x-stainless-read-timeout"

T = TypeVar("T")


def event(data: Mapping[str, Any], name: str = "") -> str:
    """One server-sent event with JSON in it."""
    text = f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
    return f"event: {name}\n{text}" if name else text


def answer_seconds(request: Request, longest: float) -> float:
    """How long an answer may take in whole: what the client waits at most, if it says so."""
    try:
        asked = float(request.headers.get(_PATIENCE_HEADER, ""))
    except ValueError:
        return longest
    return min(asked, longest) if asked > 0 else longest


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; it is cancelled when the client goes away.

    The request's body must have been read. Raises ClientDisconnect when the client is gone.
    """
    return await _unless_gone(request.receive, work)


class EventStream(Response):
    """Events, each as it comes. The generator is closed when the client goes away.

    `first` is what the generator gave before: an error that came in its place has its own status.
    """

    media_type = "text/event-stream"

    def __init__(self, first: str, events: AsyncGenerator[str]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _unless_gone(receive, self._send_all(send))
        except ClientDisconnect:
            pass
        finally:
            await self._events.aclose()

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await _send(send, self._first)
        async with aclosing(self._events) as events:
            async for text in events:
                await _send(send, text)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def stream_events(request: Request, events: AsyncGenerator[str]) -> EventStream:
    """A response of these events, once the first is there. Raises what comes in its place."""
    try:
        first = await while_connected(request, anext(events, ""))
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events)


async def with_errors_told(
    events: AsyncGenerator[str], tell: Callable[[CorralError], str] | None = None
) -> AsyncGenerator[str]:
    """The events; an error after the first becomes an event itself, since the status is out. `tell`
    writes it, where it has another shape than chat's.
    """
    error_event = tell or _error_event
    is_first = True
    async with aclosing(events):
        try:
            async for text in events:
                yield text
                is_first = False
        except CorralError as error:
            if is_first:
                raise
            yield error_event(error)
        except Exception as error:
            if is_first:
                raise
            yield error_event(unforeseen(error))


def _error_event(error: CorralError) -> str:
    return event(ErrorResponse(error=info_of(error)).model_dump())


async def _send(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
