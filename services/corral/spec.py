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

# Ten times the rate of full fine-tuning: the best rates found for either differ by about that factor
# whatever the model and the rank (Schulman et al., "LoRA Without Regret", 2025); QLoRA (Dettmers et
# al. 2023) trained models of 7 to 13 billion parameters with this rate.
LORA_LEARNING_RATE = 2e-4

SUFFIX_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"

PositiveInt = Annotated[int, Field(ge=1)]

# What an evaluation measures and a run can be judged by, see corral.judging.
EvalMetric = Literal["eval_loss", "stop_rate", "repetition_rate"]


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
        None,
        description="Peak rate. Not given: 2e-5, or 3e-5 from a billion parameters on; with lora, 2e-4.",
    )
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="Times the learning rate that is not given."
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
    precision: Literal["auto", "bf16", "bf16-pure", "fp32"] = Field(
        "auto",
        description="Compute type; auto is bf16 where the device does it. Weights and optimizer stay "
        "fp32; with bf16-pure they are bf16 too, at less than half the memory.",
    )
    packing: bool = Field(
        True,
        description="Fill forward passes of at most batch_size x max_length tokens with the step's "
        "examples. Changes the speed and nothing else.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations anew in the backward pass: slower, far less memory."
    )
    compile: bool = Field(
        False, description="Compile the model with torch.compile first; needs a C++ compiler."
    )
    tuning: Literal["full", "lora"] = Field(
        "full", description="Train every weight, or low-rank adapters only (LoRA)."
    )
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = Field(
        16, description="Rank of LoRA's adapters."
    )
    lora_alpha: Annotated[float, Field(gt=0, le=4096)] = Field(
        32, description="LoRA's scale: adapters count alpha / rank."
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Dropout on the adapters' inputs."
    )
    lora_targets: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None,
        description="Names of the linear layers that get adapters, separated by commas. Not given: "
        "all of the decoder's.",
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
    keep_checkpoints: PositiveInt = Field(
        3, description="Newest checkpoints to keep; the best one is kept besides."
    )
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
    eval_every: PositiveInt | None = Field(
        None, description="Optimizer steps between evaluations. Not given: at each checkpoint."
    )
    eval_prompts: Annotated[int, Field(ge=0, le=64)] = Field(
        4, description="Questions that the model answers at each evaluation; 0 asks none."
    )
    eval_max_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Tokens of an answer at an evaluation, at most."
    )
    early_stopping: EvalMetric | None = Field(
        None,
        description="End the run when this no longer improves: eval_loss, stop_rate or"
        " repetition_rate. Not given: never.",
    )
    early_stopping_patience: PositiveInt = Field(
        3, description="Evaluations without an improvement before the run ends."
    )

    backend: Literal["local", "kubernetes", "modal"] | None = Field(
        None, description="Where the run runs. Not given: where this deployment's runs do."
    )
    gpu: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="On Modal, the GPUs to run on, first choice first: H100,A100-80GB,A10:2. "
        "Not given: L4.",
    )
    max_cost: Annotated[float, Field(gt=0)] | None = Field(
        None, description="On Modal, US dollars after which the run saves a checkpoint and ends."
    )
    timeout_hours: Annotated[float, Field(ge=0.01, le=24)] = Field(
        24.0,
        description="On Modal, longest that one container runs; the next goes on from the newest "
        "checkpoint.",
    )
    keep_volume: bool = Field(
        False, description="On Modal, keep the remote volume once everything is home."
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.preamble is not None and self.template != "alpaca":
            raise ValueError(f"preamble: only the alpaca template has one, not {self.template!r}")
        if (self.template == "jinja") != (self.template_source is not None):
            raise ValueError("template_source: needed with template jinja, and only there")
        if self.learning_rate is not None and self.learning_rate_multiplier != 1:
            raise ValueError("learning_rate_multiplier: not together with learning_rate")
        if self.processes % self.nodes:
            raise ValueError(
                f"nodes: {self.processes} processes can't be spread evenly over {self.nodes} nodes"
            )
        if self.backend not in (None, "modal") and self.modal_fields:
            raise ValueError(f"{self.modal_fields[0]}: only for backend modal, not {self.backend}")
        if self.early_stopping == "eval_loss" and self.eval_split == 0:
            raise ValueError("early_stopping: eval_loss needs held-out rows, see eval_split")
        if self.early_stopping in ("stop_rate", "repetition_rate") and self.eval_prompts == 0:
            raise ValueError(f"early_stopping: {self.early_stopping} needs eval_prompts above 0")
        if self.tuning == "full" and self.lora_targets is not None:
            raise ValueError("lora_targets: only with tuning lora")
        return self

    @property
    def best_by(self) -> EvalMetric | None:
        """What the best checkpoint is best in: what early stopping watches, else the held-out loss;
        None where nothing is held out.
        """
        return self.early_stopping or ("eval_loss" if self.eval_split > 0 else None)

    @property
    def modal_fields(self) -> list[str]:
        """Names of the fields that mean something on Modal only and have been asked for."""
        names = ("gpu", "max_cost", "timeout_hours", "keep_volume")
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].default]

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
        if self.tuning == "lora":
            rate = LORA_LEARNING_RATE
        rate *= self.learning_rate_multiplier
        return self.model_copy(update={"learning_rate": rate, "learning_rate_multiplier": 1.0})


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
