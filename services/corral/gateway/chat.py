"""/v1/chat/completions: questions answered by any model or checkpoint, in whole or as they are written.

Knows nothing of how an answer is made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from corral.client import AsyncConnection
from corral.errors import InvalidRequestError
from corral.gateway.answering import (
    Answer,
    Piece,
    collect,
    ended_in_loop,
    finish_reason,
    pieces_of,
    sampling_of,
)
from corral.gateway.dependencies import ClientOf, SettingsOf
from corral.gateway.errors import RESPONSES
from corral.gateway.ids import new_id
from corral.gateway.schemas.answers import CHAT_TOKENS, usage_of
from corral.gateway.schemas.chat import (
    AnswerMessage,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    Choice,
    ChoiceDetails,
    ChoiceLogprobs,
    TokenLogprob,
    TopLogprob,
)
from corral.gateway.schemas.formats import schema_of
from corral.gateway.streaming import (
    DONE,
    answer_seconds,
    event,
    stream_events,
    while_connected,
    with_errors_told,
)
from corral.v1 import inference_pb2 as pb

router = APIRouter(prefix="/v1/chat", tags=["chat"], responses=RESPONSES)

ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}


@router.post("/completions", response_model=ChatCompletion)
async def complete_chat(
    asked: ChatRequest, request: Request, client: ClientOf, settings: SettingsOf
) -> Response | ChatCompletion:
    """Answer the last message, `n` times. With `stream`, as server-sent events."""
    seconds = answer_seconds(request, settings.answer_seconds)
    streams = _streams(client, asked, seconds)
    if asked.stream:
        return await stream_events(request, with_errors_told(_chunks(asked, streams)))
    answers = await while_connected(request, collect(streams))
    return ChatCompletion(
        id=new_id("chatcmpl-"),
        created=int(time.time()),
        model=answers[0].finish.model,
        choices=[_choice(index, answer, asked) for index, answer in enumerate(answers)],
        usage=usage_of([[answer.finish for answer in answers]]),
        metadata=asked.metadata,
    )


def message_of(message: ChatMessage) -> pb.Message:
    """A message as inference reads it."""
    return pb.Message(role=ROLES[message.role], content=message.text, input=message.input)


def _streams(
    client: AsyncConnection, asked: ChatRequest, seconds: float
) -> list[AsyncGenerator[pb.ChatResponse]]:
    fields = _sampling(asked)
    requests = [
        pb.ChatRequest(
            model=asked.model,
            messages=map(message_of, asked.messages),
            sampling=sampling_of(fields, index),
            drop_oldest_turns=asked.drop_oldest_turns,
        )
        for index in range(asked.n or 1)
    ]
    return [client.chat(request, seconds) for request in requests]


def _sampling(asked: ChatRequest) -> dict[str, Any]:
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise InvalidRequestError("max_tokens: not together with max_completion_tokens.")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise InvalidRequestError("top_logprobs: needs logprobs to be true.")
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequestError("stream_options: needs stream to be true.")
    return {
        **asked.sampling(),
        "max_tokens": asked.max_completion_tokens or asked.max_tokens or CHAT_TOKENS,
        "logprobs": (asked.top_logprobs or 0) if asked.logprobs else None,
        "json_schema": schema_of(asked.response_format),
    }


# ---------------------------------------------------------------- in whole


def _choice(index: int, answer: Answer, asked: ChatRequest) -> Choice:
    return Choice(
        index=index,
        message=AnswerMessage(content=answer.text),
        logprobs=_logprobs(answer.logprobs) if asked.logprobs else None,
        finish_reason=finish_reason(answer.finish),
        corral=_details(answer.finish),
    )


def _details(finish: pb.Finish) -> ChoiceDetails | None:
    return ChoiceDetails(finish_reason="loop") if ended_in_loop(finish) else None


def _logprobs(tokens: Sequence[pb.TokenLogprob]) -> ChoiceLogprobs:
    return ChoiceLogprobs(content=[token_logprob(token) for token in tokens])


def token_logprob(token: pb.TokenLogprob) -> TokenLogprob:
    """A token's likelihood as chat shows it."""
    tops = [
        TopLogprob(token=top.token, logprob=top.logprob, bytes=_bytes(top.token))
        for top in token.top
    ]
    return TokenLogprob(
        token=token.token, logprob=token.logprob, bytes=_bytes(token.token), top_logprobs=tops
    )


def _bytes(token: str) -> list[int] | None:
    # U+FFFD stands for bytes that are a character only with their neighbours: they are not known here.
    return None if "\ufffd" in token else list(token.encode())


# ---------------------------------------------------------------- as it is written


async def _chunks(
    asked: ChatRequest, streams: Sequence[AsyncGenerator[pb.ChatResponse]]
) -> AsyncGenerator[str]:
    """The chunks of all answers, then the usage where it is asked for, then the end's mark."""
    has_usage = asked.stream_options is not None and asked.stream_options.include_usage
    common = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": None,
    }

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> str:
        return event({**common, "choices": choices, **({"usage": usage} if has_usage else {})})

    begun: set[int] = set()
    finishes: list[pb.Finish] = []
    async with aclosing(pieces_of(streams)) as pieces:
        async for piece in pieces:
            if piece.index not in begun:
                begun.add(piece.index)
                yield chunk([_delta(piece.index, {"role": "assistant", "content": ""})])
            if piece.text or piece.logprobs:
                yield chunk([_text_delta(piece, asked)])
            if piece.finish is not None:
                finishes.append(piece.finish)
                yield chunk([_last_delta(piece.index, piece.finish)])
    if has_usage:
        yield chunk([], usage_of([finishes]).model_dump())
    yield DONE


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _text_delta(piece: Piece, asked: ChatRequest) -> dict[str, Any]:
    choice = _delta(piece.index, {"content": piece.text})
    if asked.logprobs:
        choice["logprobs"] = _logprobs(piece.logprobs).model_dump()
    return choice


def _last_delta(index: int, finish: pb.Finish) -> dict[str, Any]:
    choice = {**_delta(index, {}), "finish_reason": finish_reason(finish)}
    if details := _details(finish):
        choice["corral"] = details.model_dump()
    return choice
