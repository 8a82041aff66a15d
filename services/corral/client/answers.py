"""Answer and AsyncAnswer: an answer of a model as text that comes in pieces.

Knows nothing of how models are asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from corral.client.models import AnswerStream
from corral.client.reading import read
from corral.client.values import Finish
from corral.v1 import inference_pb2


class Answer:
    """An answer that comes in pieces: iterate over it, or read `text`.

    `finish` says how it ended; None before.
    """

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream
        self._pieces: list[str] = []
        self.finish: Finish | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for response in self._stream:
            if response.WhichOneof("event") == "finish":
                self.finish = read(Finish, response.finish)
            elif response.text:
                self._pieces.append(response.text)
                return response.text
        raise StopIteration

    @property
    def text(self) -> str:
        """All of it, waiting for what has not come yet."""
        for _ in self:
            pass
        return "".join(self._pieces)

    def close(self) -> None:
        """Stop it, from any thread."""
        self._stream.close()


class AsyncAnswer:
    """An answer that comes in pieces: iterate over it, or await `text()`.

    `finish` says how it ended; None before.
    """

    def __init__(self, stream: AsyncGenerator[inference_pb2.ChatResponse]) -> None:
        self._stream = stream
        self._pieces: list[str] = []
        self.finish: Finish | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        async for response in self._stream:
            if response.WhichOneof("event") == "finish":
                self.finish = read(Finish, response.finish)
            elif response.text:
                self._pieces.append(response.text)
                return response.text
        raise StopAsyncIteration

    async def text(self) -> str:
        """All of it, waiting for what has not come yet."""
        async for _ in self:
            pass
        return "".join(self._pieces)

    async def close(self) -> None:
        """Stop it."""
        await self._stream.aclose()
