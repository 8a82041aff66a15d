"""TrainingSpec: all that a user may ask of a run, and the only place where a default is written.

The proto's fields, the command line's flags and the chart's values carry the same names and take
their defaults from here. Knows nothing of how a run is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from corral.errors import SpecError

# Stanford Alpaca trained GPT-2-like sizes and up with 2e-5; from about a billion parameters on
# the project that Corral grew out of used 3e-5.
SMALL_MODEL_LEARNING_RATE = 2e-5
LLAMA_SIZE_LEARNING_RATE = 3e-5
LLAMA_SIZE_PARAMETERS = 1_000_000_000

SUFFIX_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"

PositiveInt = Annotated[int, Field(ge=1)]


class TrainingSpec(BaseModel):
    """What to train, on top of what, and how. Frozen; validated when built."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)

    model: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        "gpt2", description="A Hugging Face id, a local folder, or smollm2-135m."
    )
    epochs: PositiveInt = Field(3, description="How often every example is seen.")
    max_steps: PositiveInt | None = Field(
        None, description="End after this many optimizer steps, whatever the epochs say."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Peak rate. Not given: 2e-5, or 3e-5 from a billion parameters on."
    )
    lr_scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the rate falls after the warm-up."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.03, description="Share of all steps in which the rate rises from 0."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="AdamW's, on matrices only."
    )
    batch_size: PositiveInt = Field(4, description="Examples per process and forward pass.")
    gradient_accumulation_steps: PositiveInt = Field(
        8, description="Forward passes per optimizer step."
    )
    max_length: Annotated[int, Field(ge=8)] = Field(
        1024, description="Tokens of prompt and answer together; longer examples are cut."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Compute type; auto is bf16 where the device does it."
    )
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradient clipping.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        42, description="Of the order of examples and of new weights."
    )
    fsdp: Literal["full_shard", "none"] = Field(
        "full_shard",
        description="full_shard splits weights, gradients and optimizer over processes.",
    )
    fsdp_wrap: str | None = Field(
        None, description="Class name of the layer to shard by. Not given: found from the model."
    )
    processes: Annotated[int, Field(ge=1, le=4096)] = Field(
        1, description="Processes, one per GPU where there are GPUs."
    )
    nodes: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Machines that the processes are spread over evenly."
    )
    checkpoint_every: PositiveInt = Field(
        100, description="Optimizer steps between checkpoints; the last step always makes one."
    )
    keep_checkpoints: PositiveInt = Field(3, description="Newest checkpoints to keep.")
    template: Literal["alpaca", "chatml", "model", "jinja"] = Field(
        "alpaca", description="Prompt template; model is the base model's own, jinja is yours."
    )
    preamble: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="Text in place of the alpaca template's preamble."
    )
    template_source: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        None, description="Text of the Jinja template, with template jinja."
    )
    suffix: Annotated[str, Field(pattern=SUFFIX_PATTERN)] | None = Field(
        None, description="Your word in the model's name: ft:gpt2:SUFFIX:job."
    )
    eval_split: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the rows held out for evaluation."
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.preamble is not None and self.template != "alpaca":
            raise ValueError(f"preamble: only the alpaca template has one, not {self.template!r}")
        if (self.template == "jinja") != (self.template_source is not None):
            raise ValueError("template_source: needed with template jinja, and only there")
        if self.processes % self.nodes:
            raise ValueError(
                f"nodes: {self.processes} processes can't be spread evenly over {self.nodes} nodes"
            )
        return self

    @property
    def processes_per_node(self) -> int:
        """Processes on each of the nodes."""
        return self.processes // self.nodes

    @property
    def effective_batch_size(self) -> int:
        """Examples per optimizer step over all processes."""
        return self.batch_size * self.gradient_accumulation_steps * self.processes

    def with_learning_rate_for(self, parameters: int) -> TrainingSpec:
        """The spec with its learning rate filled in for a model of so many parameters."""
        if self.learning_rate is not None:
            return self
        large = parameters >= LLAMA_SIZE_PARAMETERS
        rate = LLAMA_SIZE_LEARNING_RATE if large else SMALL_MODEL_LEARNING_RATE
        return self.model_copy(update={"learning_rate": rate})


def parse_spec(fields: Mapping[str, Any]) -> TrainingSpec:
    """Build a spec from a user's fields.

    Raises SpecError naming every field at fault, the value it had and what is allowed.
    """
    try:
        return TrainingSpec.model_validate(dict(fields))
    except ValidationError as error:
        raise SpecError("The training spec is not valid: " + _sentences(error)) from None


def _sentences(error: ValidationError) -> str:
    return "; ".join(_sentence(dict(problem)) for problem in error.errors()) + "."


def _sentence(problem: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field}: there is no such field (known: {', '.join(TrainingSpec.model_fields)})"
    if problem["type"] == "string_pattern_mismatch" and field == "suffix":
        allowed = "must be 1 to 40 of a-z, 0-9 and -, and not begin with -"
        return f"{field}: {problem['input']!r:.80} {allowed}"
    said = re.sub(r"^(Input|Value error,?) (should|)", r"\2", str(problem["msg"])).strip()
    if not field:
        return said
    return f"{field}: {problem['input']!r:.80} {said}"
