"""SamplingOptions: how an answer may be drawn, and the only place with the defaults of generation.

Knows nothing of tensors; `corral.generation.sampler` does the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corral.errors import InvalidRequestError

MAX_STOPS = 16
MAX_BIASES = 300
MAX_ALTERNATIVES = 20
# Characters of a JSON schema.
MAX_SCHEMA = 65_536

StopString = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class SamplingOptions(BaseModel):
    """How an answer is drawn. Frozen; validated when built, see `parse_sampling`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_tokens: Annotated[int, Field(ge=1)] = Field(
        100, description="Tokens of the answer at most, the end token included."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        0.7, description="Below 1 likely tokens become likelier; 0 takes the likeliest each time."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="Draw from the fewest tokens that hold this much of the probability."
    )
    top_k: Annotated[int, Field(ge=0)] = Field(
        50, description="Draw from so many likeliest tokens; 0 keeps all."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="Above 1 tokens that stand in prompt or answer become less likely."
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(
        None, description="The same seed gives the same answer; not given: another each time."
    )
    stop: Annotated[tuple[StopString, ...], Field(max_length=MAX_STOPS)] = Field(
        (), description="The answer ends before the first of these."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Leave out tokens less likely than this share of the likeliest's; 0: none."
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        0.0, description="Taken from the logits of tokens that stand in the answer."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        0.0, description="Taken from a token's logit as often as it stands in the answer."
    )
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASES)] = Field(
        {}, description="Added to the logits of these token ids; -100 forbids, 100 forces."
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        None,
        description="Report each token's log likelihood, and so many of the likeliest tokens.",
    )
    json_schema: Annotated[str, Field(min_length=1, max_length=MAX_SCHEMA)] | None = Field(
        None, description="The answer is JSON of this JSON schema: no other token is drawn."
    )
    loop_guard: bool = Field(
        True, description="End an answer that only repeats itself, with finish reason LOOP."
    )


def parse_sampling(fields: Mapping[str, Any]) -> SamplingOptions:
    """Build options from a user's fields.

    Raises InvalidRequestError naming every field at fault, the value it had and what is allowed.
    """
    try:
        return SamplingOptions.model_validate(dict(fields))
    except ValidationError as error:
        sentences = "; ".join(_sentence(dict(problem)) for problem in error.errors())
        raise InvalidRequestError(f"The sampling options are not valid: {sentences}.") from None


def _sentence(problem: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field}: there is no such field (known: {', '.join(SamplingOptions.model_fields)})"
    said = str(problem["msg"]).removeprefix("Input ")
    return f"{field}: {problem['input']!r:.80} {said}"
