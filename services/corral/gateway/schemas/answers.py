"""What the answers of chat and completions share: usage, and the options of sampling.

Knows nothing of either's messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from corral.gateway.schemas.base import LARGEST_INT, Body, View
from corral.sampling import MAX_BIASES, MAX_STOPS
from corral.v1 import inference_pb2 as pb

TokenId = Annotated[int, Field(ge=0, le=LARGEST_INT)]
Bias = Annotated[float, Field(ge=-100, le=100)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
MOST_ANSWERS = 16
# Of an answer at most, where the request does not say. OpenAI lets a chat's answer go on to the
# context's end; a small model that has not learned to stop would do so each time.
CHAT_TOKENS = 1024
# As OpenAI has it.
COMPLETION_TOKENS = 16


class StreamOptions(Body):
    """How a stream is written."""

    unsupported: ClassVar = {"include_obfuscation": (None, False)}

    include_usage: bool = False


class SamplingBody(Body):
    """How an answer is drawn. What is not set takes Corral's own default, see docs/openai.md."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Seed | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASES)] | None = None
    # Ours, under `extra_body` in OpenAI's clients.
    top_k: Annotated[int, Field(ge=0, le=LARGEST_INT)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    loop_guard: bool | None = None

    def sampling(self) -> dict[str, Any]:
        """The options that are set, by the names of corral.sampling."""
        fields = {name: getattr(self, name) for name in SamplingBody.model_fields}
        if isinstance(self.stop, str):
            fields["stop"] = (self.stop,)
        return {name: value for name, value in fields.items() if value is not None}


class PromptTokensDetails(View):
    """`cached_tokens` were known from an earlier prompt."""

    cached_tokens: int


class Usage(View):
    """Tokens of a call. Those of the prompt count once, however many answers there are."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage_of(prompts: Sequence[Sequence[pb.Finish]]) -> Usage:
    """What some prompts, each with its answers' finishes, took."""
    asked = sum(finishes[0].prompt_tokens for finishes in prompts)
    written = sum(finish.completion_tokens for finishes in prompts for finish in finishes)
    cached = sum(finishes[0].cached_tokens for finishes in prompts)
    return Usage(
        prompt_tokens=asked,
        completion_tokens=written,
        total_tokens=asked + written,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
    )
