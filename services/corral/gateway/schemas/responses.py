"""Bodies of /v1/responses, for text. Knows nothing of how an answer is drawn."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from corral.gateway.schemas.base import NOTHING, Body, Count, Metadata, View
from corral.gateway.schemas.formats import JsonObjectFormat, TextFormat, TextSchemaFormat
from corral.sampling import MAX_ALTERNATIVES


class InputText(Body):
    """A piece of a message; `output_text` is one of an answer that is sent back."""

    unsupported: ClassVar = {"annotations": NOTHING, "logprobs": NOTHING}

    type: Literal["input_text", "output_text"]
    text: str


class InputMessage(Body):
    """A message. `id` and `status` of an answer that is sent back say nothing here."""

    unsupported: ClassVar = {"phase": (None,)}

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]
    id: str | None = None
    status: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class TextConfig(Body):
    """The form of the answer's text."""

    unsupported: ClassVar = {"verbosity": (None, "medium")}

    format: Annotated[
        TextFormat | JsonObjectFormat | TextSchemaFormat | None, Field(discriminator="type")
    ] = None


class ResponseRequest(Body):
    """A question. Nothing is stored: the conversation comes whole each time."""

    unsupported: ClassVar = {
        "background": (None, False),
        "context_management": NOTHING,
        "conversation": NOTHING,
        "include": NOTHING,
        "max_tool_calls": (None,),
        "moderation": NOTHING,
        "parallel_tool_calls": (None, True, False),
        "previous_response_id": (None,),
        "prompt": NOTHING,
        "reasoning": (*NOTHING, {"effort": "none"}),
        "service_tier": (None, "auto", "default"),
        "store": (None, False),
        "stream_options": (*NOTHING, {"include_obfuscation": False}),
        "tool_choice": (*NOTHING, "none", "auto"),
        "tools": NOTHING,
    }

    model: Annotated[str, Field(min_length=1, max_length=512)]
    input: str | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    text: TextConfig | None = None
    # "auto" leaves the oldest turns out where all don't fit the model's context.
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    # Names for whoever runs a service; they change no answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


# ---------------------------------------------------------------- answers

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(View):
    """The answer's text."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[dict[str, Any]] = Field(default_factory=list)


class OutputMessage(View):
    """The answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputDetails(View):
    """`cached_tokens` were known from an earlier prompt."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(View):
    """No model here thinks apart from its answer."""

    reasoning_tokens: int = 0


class ResponseUsage(View):
    """Tokens of the call."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class IncompleteDetails(View):
    """Why an answer was cut."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseView(View):
    """An answer, finished or on its way."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status
    error: dict[str, Any] | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputMessage] = Field(default_factory=list)
    usage: ResponseUsage | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    text: dict[str, Any]
    truncation: Literal["auto", "disabled"] = "disabled"
    metadata: dict[str, str] = Field(default_factory=dict)
    parallel_tool_calls: bool = False
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = Field(default_factory=list)
    previous_response_id: None = None
    background: Literal[False] = False
    store: Literal[False] = False
    service_tier: Literal["default"] = "default"
    user: str | None = None
