"""Answers from the inference service, one or several to one question, as their pieces come.

What /v1/chat/completions, /v1/completions and /v1/responses share; knows nothing of how each shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from corral.errors import UnavailableError
from corral.sampling import SamplingOptions, parse_sampling
from corral.v1 import inference_pb2 as pb

FinishReason = Literal["stop", "length"]
# OpenAI has no word for an answer that was ended because it repeated itself: it was cut.
_REASONS: dict[int, FinishReason] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_LOOP: "length",
}


@dataclass(frozen=True)
class Piece:
    """Some text of the answer of that index, or its prompt, or its finish."""

    index: int
    text: str = ""
    logprobs: Sequence[pb.TokenLogprob] = ()
    prompt: str = ""
    prompt_logprobs: Sequence[pb.TokenLogprob] = ()
    finish: pb.Finish | None = None


@dataclass
class Answer:
    """An answer in whole; its prompt where that was to be told."""

    prompt: str = ""
    text: str = ""
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    finish: pb.Finish = field(default_factory=pb.Finish)

    def add(self, piece: Piece) -> None:
        self.prompt += piece.prompt
        self.text += piece.text
        self.logprobs.extend(piece.logprobs)
        self.prompt_logprobs.extend(piece.prompt_logprobs)
        if piece.finish is not None:
            self.finish = piece.finish


def finish_reason(finish: pb.Finish) -> FinishReason:
    """Why an answer ended, in OpenAI's words. Raises UnavailableError for one that was broken off."""
    if finish.reason == pb.FINISH_REASON_CANCELLED:
        raise UnavailableError("The answer was broken off by the server.", "Ask again.")
    return _REASONS[finish.reason]


def ended_in_loop(finish: pb.Finish) -> bool:
    """Whether the loop guard ended it."""
    return finish.reason == pb.FINISH_REASON_LOOP


def sampling_of(fields: Mapping[str, Any], index: int = 0) -> pb.SamplingOptions:
    """The fields that a client set, for the index-th of its answers: each has a seed of its own.

    Raises InvalidRequestError naming what is out of bounds.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if index and "seed" in given:
        # Around the end of int64, as if there were none.
        given["seed"] = (given["seed"] + index + 2**63) % 2**64 - 2**63
    options: SamplingOptions = parse_sampling(given)
    return pb.SamplingOptions(**options.model_dump(include=set(given)))


async def pieces_of(streams: Sequence[AsyncGenerator[Any]]) -> AsyncGenerator[Piece]:
    """The pieces of several answers as they come; closing this ends them all, and so does an error
    of one.
    """
    arrived: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue(maxsize=64)

    async def read(index: int, stream: AsyncGenerator[Any]) -> None:
        try:
            async with aclosing(stream):
                async for response in stream:
                    await arrived.put(_piece(index, response))
        except Exception as error:  # noqa: BLE001 - raised where the pieces are read
            await arrived.put(error)
        else:
            await arrived.put(None)

    tasks = [asyncio.create_task(read(index, stream)) for index, stream in enumerate(streams)]
    try:
        for _ in tasks:
            while (piece := await arrived.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def collect(streams: Sequence[AsyncGenerator[Any]]) -> list[Answer]:
    """The answers in whole, in the streams' order."""
    answers = [Answer() for _ in streams]
    async with aclosing(pieces_of(streams)) as pieces:
        async for piece in pieces:
            answers[piece.index].add(piece)
    return answers


def _piece(index: int, response: Any) -> Piece:
    kind = response.WhichOneof("event")
    if kind == "finish":
        return Piece(index, logprobs=response.logprobs, finish=response.finish)
    if kind == "echo":
        return Piece(index, prompt=response.echo.text, prompt_logprobs=response.echo.logprobs)
    return Piece(index, response.text, response.logprobs)
