"""Bodies of /v1/completions. Knows nothing of how a text is continued."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from corral.gateway.schemas.answers import (
    MOST_ANSWERS,
    SamplingBody,
    StreamOptions,
    TokenId,
    Usage,
)
from corral.gateway.schemas.base import LARGEST_INT, View
from corral.sampling import MAX_ALTERNATIVES

MOST_PROMPTS = 64

Tokens = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingBody):
    """A text, or several, to go on with: as text or as token ids of the model's own tokenizer."""

    unsupported: ClassVar = {
        "best_of": (None, 1),
        "suffix": (None,),
    }

    model: Annotated[str, Field(min_length=1, max_length=512)]
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    # 0, with `echo`: only how likely the prompt is.
    max_tokens: Annotated[int, Field(ge=0, le=LARGEST_INT)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    user: str | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class CompletionLogprobs(View):
    """Of each token, in the tokens' order. The first of a prompt that is echoed has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    # Where each token begins in the choice's text, in characters.
    text_offset: list[int]


class CompletionChoice(View):
    """One way to go on. `index` counts through all answers of all prompts."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(View):
    """How the prompts go on."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str | None = None
    usage: Usage | None = None
