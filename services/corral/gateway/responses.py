"""/v1/responses: OpenAI's newer way to ask, for text, in whole or as named events.

Knows nothing of how an answer is made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from corral.client import AsyncConnection
from corral.errors import CorralError
from corral.gateway.answering import Answer, collect, finish_reason, pieces_of, sampling_of
from corral.gateway.chat import ROLES, token_logprob
from corral.gateway.dependencies import ClientOf, SettingsOf
from corral.gateway.errors import RESPONSES, info_of
from corral.gateway.ids import new_id
from corral.gateway.schemas.answers import CHAT_TOKENS
from corral.gateway.schemas.formats import schema_of
from corral.gateway.schemas.responses import (
    IncompleteDetails,
    InputDetails,
    OutputMessage,
    OutputText,
    ResponseRequest,
    ResponseUsage,
    ResponseView,
    Status,
)
from corral.gateway.streaming import (
    answer_seconds,
    event,
    stream_events,
    while_connected,
    with_errors_told,
)
from corral.v1 import inference_pb2 as pb

router = APIRouter(prefix="/v1/responses", tags=["chat"], responses=RESPONSES)


@router.post("", response_model=ResponseView)
async def create_response(
    asked: ResponseRequest, request: Request, client: ClientOf, settings: SettingsOf
) -> Response | ResponseView:
    """Answer the last message. With `stream`, as named server-sent events."""
    stream = _stream(client, asked, answer_seconds(request, settings.answer_seconds))
    draft = _draft(asked)
    if asked.stream:
        told = _Numbered()
        events = with_errors_told(_events(told, draft, stream), told.error)
        return await stream_events(request, events)
    (answer,) = await while_connected(request, collect([stream]))
    return _finished(draft, answer, new_id("msg_"))


def _stream(
    client: AsyncConnection, asked: ResponseRequest, seconds: float
) -> AsyncGenerator[pb.ChatResponse]:
    fields = {
        "max_tokens": asked.max_output_tokens or CHAT_TOKENS,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "logprobs": asked.top_logprobs,
        "json_schema": schema_of(asked.text.format if asked.text is not None else None),
    }
    request = pb.ChatRequest(
        model=asked.model,
        messages=_messages(asked),
        sampling=sampling_of(fields),
        drop_oldest_turns=asked.truncation == "auto",
    )
    return client.chat(request, seconds)


def _messages(asked: ResponseRequest) -> list[pb.Message]:
    """Instructions come first, as the system's."""
    messages = []
    if asked.instructions is not None:
        messages.append(pb.Message(role=pb.ROLE_SYSTEM, content=asked.instructions))
    if isinstance(asked.input, str):
        return [*messages, pb.Message(role=pb.ROLE_USER, content=asked.input)]
    given = (pb.Message(role=ROLES[one.role], content=one.text) for one in asked.input)
    return [*messages, *given]


# ---------------------------------------------------------------- views


def _draft(asked: ResponseRequest) -> ResponseView:
    """The answer before a word of it is written."""
    wanted = asked.text.format if asked.text is not None else None
    form = wanted.model_dump(by_alias=True) if wanted is not None else {"type": "text"}
    return ResponseView(
        id=new_id("resp_"),
        created_at=int(time.time()),
        status="in_progress",
        model=asked.model,
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_logprobs=asked.top_logprobs,
        text={"format": form},
        truncation=asked.truncation or "disabled",
        metadata=asked.metadata or {},
        user=asked.user,
    )


def _finished(draft: ResponseView, answer: Answer, message_id: str) -> ResponseView:
    finish = answer.finish
    is_whole = finish_reason(finish) == "stop"
    status: Status = "completed" if is_whole else "incomplete"
    message = OutputMessage(id=message_id, status=status, content=[_text(answer)])
    return draft.model_copy(
        update={
            "status": status,
            "completed_at": int(time.time()) if is_whole else None,
            "incomplete_details": None if is_whole else IncompleteDetails(),
            "model": finish.model,
            "output": [message],
            "usage": ResponseUsage(
                input_tokens=finish.prompt_tokens,
                input_tokens_details=InputDetails(cached_tokens=finish.cached_tokens),
                output_tokens=finish.completion_tokens,
                total_tokens=finish.prompt_tokens + finish.completion_tokens,
            ),
        }
    )


def _text(answer: Answer) -> OutputText:
    return OutputText(text=answer.text, logprobs=[_logprob(one) for one in answer.logprobs])


def _logprob(token: pb.TokenLogprob) -> dict[str, Any]:
    """As chat shows it, but with a list for bytes that are not known."""
    shown = token_logprob(token).model_dump()
    for one in (shown, *shown["top_logprobs"]):
        one["bytes"] = one["bytes"] or []
    return shown


# ---------------------------------------------------------------- as it is written


class _Numbered:
    """Events of one stream, numbered from 0."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, kind: str, **fields: Any) -> str:
        data = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return event(data, kind)

    def error(self, error: CorralError) -> str:
        """The last event of a stream that breaks off."""
        info = info_of(error)
        return self("error", code=info.code, message=info.message, param=info.param)


async def _events(
    told: _Numbered, draft: ResponseView, stream: AsyncGenerator[pb.ChatResponse]
) -> AsyncGenerator[str]:
    """The events that OpenAI's clients know, from `response.created` to the end."""
    message = OutputMessage(id=new_id("msg_"), status="in_progress", content=[])
    place = {"item_id": message.id, "output_index": 0, "content_index": 0}
    answer = Answer()
    async with aclosing(pieces_of([stream])) as pieces:
        is_begun = False
        async for piece in pieces:
            if not is_begun:
                is_begun = True
                for text in _opening(told, draft, message, place):
                    yield text
            answer.add(piece)
            if piece.text or piece.logprobs:
                logprobs = [_logprob(one) for one in piece.logprobs]
                yield told(
                    "response.output_text.delta", **place, delta=piece.text, logprobs=logprobs
                )
    for text in _closing(told, _finished(draft, answer, message.id), place):
        yield text


def _opening(
    told: _Numbered, draft: ResponseView, message: OutputMessage, place: dict[str, Any]
) -> list[str]:
    view = draft.model_dump()
    return [
        told("response.created", response=view),
        told("response.in_progress", response=view),
        told("response.output_item.added", output_index=0, item=message.model_dump()),
        told("response.content_part.added", **place, part=OutputText(text="").model_dump()),
    ]


def _closing(told: _Numbered, finished: ResponseView, place: dict[str, Any]) -> list[str]:
    (message,) = finished.output
    (text,) = message.content
    end = "response.completed" if finished.status == "completed" else "response.incomplete"
    return [
        told("response.output_text.done", **place, text=text.text, logprobs=text.logprobs),
        told("response.content_part.done", **place, part=text.model_dump()),
        told("response.output_item.done", output_index=0, item=message.model_dump()),
        told(end, response=finished.model_dump()),
    ]
