"""Bodies of /v1/chat/completions. Knows nothing of how an answer is drawn."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from corral.gateway.schemas.answers import MOST_ANSWERS, SamplingBody, StreamOptions, Usage
from corral.gateway.schemas.base import NOTHING, Body, Count, View
from corral.gateway.schemas.formats import ResponseFormat
from corral.sampling import MAX_ALTERNATIVES


class TextPart(Body):
    """A piece of a message; text is what there is."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A message. A developer is a system; `input` is the further context of Alpaca's template."""

    unsupported: ClassVar = dict.fromkeys(
        ("name", "tool_calls", "function_call", "refusal", "audio", "annotations"), NOTHING
    )

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    input: str = ""

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(SamplingBody):
    """A question."""

    unsupported: ClassVar = {
        "audio": NOTHING,
        "function_call": (*NOTHING, "none"),
        "functions": NOTHING,
        "modalities": (*NOTHING, ["text"]),
        "moderation": NOTHING,
        "parallel_tool_calls": (None, True, False),
        "prediction": NOTHING,
        "reasoning_effort": (None, "none"),
        "service_tier": (None, "auto", "default"),
        "store": (None, False),
        "tool_choice": (*NOTHING, "none", "auto"),
        "tools": NOTHING,
        "verbosity": (None, "medium"),
        "web_search_options": NOTHING,
    }

    model: Annotated[str, Field(min_length=1, max_length=512)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    max_completion_tokens: Count | None = None
    # OpenAI's older name of it.
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    response_format: ResponseFormat | None = None
    # Names for whoever runs a service; they change no answer.
    user: str | None = None
    safety_identifier: str | None = None
    # Prompts that were seen are known here anyway.
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    # Ours: the oldest turns are left out where the messages don't fit the model's context.
    drop_oldest_turns: bool = False


# ---------------------------------------------------------------- answers


class TopLogprob(View):
    """`bytes` is null where the token is only part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """How likely a token was, and the likeliest ones in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(View):
    """Of each token of an answer."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(View):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChoiceDetails(View):
    """Ours: why an answer was cut, where OpenAI has no word for it."""

    finish_reason: Literal["loop"]


class Choice(View):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: Literal["stop", "length"]
    corral: ChoiceDetails | None = None


class ChatCompletion(View):
    """The answers to a question."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None
    service_tier: Literal["default"] = "default"
    metadata: dict[str, str] | None = None


Chunk = dict[str, Any]
