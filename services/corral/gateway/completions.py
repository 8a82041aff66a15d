"""/v1/completions: raw texts, or token ids, continued without any template.

Knows nothing of how a text is continued.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import accumulate
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from corral.client import AsyncConnection
from corral.errors import InvalidRequestError
from corral.gateway.answering import (
    Answer,
    Piece,
    collect,
    finish_reason,
    pieces_of,
    sampling_of,
)
from corral.gateway.dependencies import ClientOf, SettingsOf
from corral.gateway.errors import RESPONSES
from corral.gateway.ids import new_id
from corral.gateway.schemas.answers import COMPLETION_TOKENS, Usage, usage_of
from corral.gateway.schemas.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from corral.gateway.streaming import (
    DONE,
    answer_seconds,
    event,
    stream_events,
    while_connected,
    with_errors_told,
)
from corral.v1 import inference_pb2 as pb

router = APIRouter(prefix="/v1", tags=["chat"], responses=RESPONSES)


@router.post("/completions", response_model=Completion)
async def complete(
    asked: CompletionRequest, request: Request, client: ClientOf, settings: SettingsOf
) -> Response | Completion:
    """Go on with each prompt, `n` times. With `stream`, as server-sent events."""
    seconds = answer_seconds(request, settings.answer_seconds)
    streams = _streams(client, asked, seconds)
    if asked.stream:
        return await stream_events(request, with_errors_told(_chunks(asked, streams)))
    answers = await while_connected(request, collect(streams))
    return Completion(
        id=new_id("cmpl-"),
        created=int(time.time()),
        model=answers[0].finish.model,
        choices=[_choice(index, answer, asked) for index, answer in enumerate(answers)],
        usage=_usage(asked, [answer.finish for answer in answers]),
    )


def _streams(
    client: AsyncConnection, asked: CompletionRequest, seconds: float
) -> list[AsyncGenerator[pb.GenerateResponse]]:
    """One for each answer, those of the first prompt first."""
    fields = _sampling(asked)
    requests = [
        pb.GenerateRequest(
            model=asked.model,
            prompt=prompt if isinstance(prompt, str) else "",
            prompt_tokens=() if isinstance(prompt, str) else prompt,
            sampling=sampling_of(fields, index),
            echo=bool(asked.echo),
        )
        for prompt in asked.prompts
        for index in range(asked.n or 1)
    ]
    return [client.generate(request, seconds) for request in requests]


def _sampling(asked: CompletionRequest) -> dict[str, Any]:
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequestError("stream_options: needs stream to be true.")
    if _is_prompt_only(asked) and not asked.echo:
        raise InvalidRequestError("max_tokens: 0 is for echo only.")
    tokens = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
    return {**asked.sampling(), "max_tokens": max(tokens, 1), "logprobs": asked.logprobs}


def _is_prompt_only(asked: CompletionRequest) -> bool:
    """Whether the prompt alone is wanted. The one token that is then written is left out."""
    return asked.max_tokens == 0


def _usage(asked: CompletionRequest, finishes: Sequence[pb.Finish]) -> Usage:
    each = asked.n or 1
    usage = usage_of([finishes[at : at + each] for at in range(0, len(finishes), each)])
    if _is_prompt_only(asked):
        usage.completion_tokens, usage.total_tokens = 0, usage.prompt_tokens
    return usage


def _choice(index: int, answer: Answer, asked: CompletionRequest) -> CompletionChoice:
    text, tokens = answer.prompt, answer.prompt_logprobs
    if not _is_prompt_only(asked):
        text, tokens = text + answer.text, [*tokens, *answer.logprobs]
    return CompletionChoice(
        index=index,
        text=text,
        logprobs=_logprobs(tokens, has_first=bool(asked.echo))
        if asked.logprobs is not None
        else None,
        finish_reason="length" if _is_prompt_only(asked) else finish_reason(answer.finish),
    )


def _logprobs(
    tokens: Sequence[pb.TokenLogprob], *, has_first: bool, begins_at: int = 0
) -> CompletionLogprobs:
    """`has_first`: the first is the prompt's first, which follows nothing."""
    ends = list(accumulate((len(token.token) for token in tokens), initial=begins_at))
    likelihoods: list[float | None] = [token.logprob for token in tokens]
    tops: list[dict[str, float] | None] = [
        {top.token: top.logprob for top in token.top} for token in tokens
    ]
    if has_first and tokens:
        likelihoods[0] = tops[0] = None
    return CompletionLogprobs(
        tokens=[token.token for token in tokens],
        token_logprobs=likelihoods,
        top_logprobs=tops,
        text_offset=ends[:-1],
    )


# ---------------------------------------------------------------- as it is written


async def _chunks(
    asked: CompletionRequest, streams: Sequence[AsyncGenerator[pb.GenerateResponse]]
) -> AsyncGenerator[str]:
    """The chunks of all answers, then the usage where it is asked for, then the end's mark."""
    common = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": None,
    }
    written = [0] * len(streams)
    finishes = [pb.Finish()] * len(streams)
    async with aclosing(pieces_of(streams)) as pieces:
        async for piece in pieces:
            choice = _chunk_choice(piece, asked, written[piece.index])
            written[piece.index] += len(choice.text)
            if piece.finish is not None:
                finishes[piece.index] = piece.finish
            yield event({**common, "choices": [choice.model_dump()]})
    if asked.stream_options is not None and asked.stream_options.include_usage:
        yield event({**common, "choices": [], "usage": _usage(asked, finishes).model_dump()})
    yield DONE


def _chunk_choice(piece: Piece, asked: CompletionRequest, begins_at: int) -> CompletionChoice:
    text, tokens = piece.text, piece.logprobs
    if _is_prompt_only(asked):
        text, tokens = "", ()
    text, tokens = piece.prompt + text, [*piece.prompt_logprobs, *tokens]
    is_first = bool(piece.prompt_logprobs)
    has_logprobs = asked.logprobs is not None and bool(tokens)
    return CompletionChoice(
        index=piece.index,
        text=text,
        logprobs=_logprobs(tokens, has_first=is_first, begins_at=begins_at)
        if has_logprobs
        else None,
        finish_reason=finish_reason(piece.finish) if piece.finish is not None else None,
    )
