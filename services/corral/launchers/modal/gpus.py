"""Which GPUs a run may have on Modal, in order of preference: `H100,A100-80GB,A10:2`.

Modal's client passes on any name; a wrong one would be noticed only when the image is built and the
data is there. Knows nothing of prices, and does not import modal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corral.errors import SpecError
from corral.spec import TrainingSpec

DEFAULT_GPU = "L4"
MOST_ALTERNATIVES = 8


@dataclass(frozen=True)
class GpuModel:
    """One type of GPU as Modal names it, and how many of them one container can have."""

    name: str
    memory_gib: int
    most: int = 8
    # Compute capability 8.0 and newer computes in bf16.
    bf16: bool = True


# https://modal.com/docs/guide/gpu, read in October 2026.
GPU_MODELS = {
    model.name: model
    for model in (
        GpuModel("T4", 16, bf16=False),
        GpuModel("L4", 24),
        GpuModel("A10", 24, most=4),
        GpuModel("L40S", 48),
        GpuModel("A100-40GB", 40),
        GpuModel("A100-80GB", 80),
        GpuModel("RTX-PRO-6000", 96),
        # Modal may give an H200 for an H100 at the same price; H100! is exactly that.
        GpuModel("H100", 80),
        GpuModel("H100!", 80),
        GpuModel("H200", 141),
        GpuModel("B200", 180),
    )
}


@dataclass(frozen=True)
class GpuChoice:
    """So many GPUs of one type, in one container."""

    model: GpuModel
    count: int = 1

    def __str__(self) -> str:
        """As Modal reads it: `A10:2`, or `A10` for one."""
        return self.model.name if self.count == 1 else f"{self.model.name}:{self.count}"


def gpus_of(spec: TrainingSpec) -> tuple[GpuChoice, ...]:
    """The alternatives that a spec allows, the preferred one first.

    Raises SpecError where they don't fit Modal, or the rest of the spec.
    """
    choices = parse_gpus(spec.gpu or DEFAULT_GPU)
    if spec.nodes > 1:
        raise SpecError(
            f"nodes: a run on Modal has one container, not {spec.nodes}.",
            "Ask for more GPUs in it: --gpu H100:8.",
        )
    for choice in choices:
        _check_fits(choice, spec)
    return choices


def parse_gpus(text: str) -> tuple[GpuChoice, ...]:
    """`H100,A10:2` as values. Raises SpecError naming the alternative at fault."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MOST_ALTERNATIVES:
        raise SpecError(
            f"gpu: {len(parts)} alternatives; at most {MOST_ALTERNATIVES} can be given."
        )
    choices = tuple(_parse_one(part) for part in parts)
    repeated = next((choice for choice in choices if choices.count(choice) > 1), None)
    if repeated is not None:
        raise SpecError(f"gpu: {repeated} is given twice.", "Give each alternative once.")
    return choices


def micro_batches(spec: TrainingSpec) -> int:
    """Forward passes of one optimizer step, over all processes that the spec speaks of."""
    return spec.gradient_accumulation_steps * spec.processes


def spread_over(spec: TrainingSpec, choice: GpuChoice) -> TrainingSpec:
    """The spec as it runs on that GPU: a process each, the effective batch size as asked for.

    A GPU without bf16 computes in fp32 where the spec leaves the choice.
    """
    fields: dict[str, Any] = {
        "processes": choice.count,
        "nodes": 1,
        "gradient_accumulation_steps": micro_batches(spec) // choice.count,
    }
    if not choice.model.bf16 and spec.precision == "auto":
        fields["precision"] = "fp32"
    return spec.model_copy(update=fields)


def _parse_one(text: str) -> GpuChoice:
    name, separator, number = text.partition(":")
    model = GPU_MODELS.get(name.upper())
    if model is None:
        raise SpecError(f"gpu: Modal has no GPU {name!r:.40}.", f"It has: {', '.join(GPU_MODELS)}.")
    if separator and not (number.isascii() and number.isdecimal() and len(number) < 4):
        raise SpecError(f"gpu: {text!r:.40} has no count behind the colon.", "Write A10:2, say.")
    count = int(number) if separator else 1
    if not 1 <= count <= model.most:
        raise SpecError(
            f"gpu: {count} x {model.name} in one container; 1 to {model.most} are possible.",
            f"Ask for {model.name}:{model.most} or fewer.",
        )
    return GpuChoice(model, count)


def _check_fits(choice: GpuChoice, spec: TrainingSpec) -> None:
    if spec.precision == "bf16" and not choice.model.bf16:
        raise SpecError(
            f"precision: {choice.model.name} does not compute in bf16.",
            "Leave the precision out (it trains in fp32 there), or take another GPU.",
        )
    passes = micro_batches(spec)
    if passes % choice.count:
        raise SpecError(
            f"gradient_accumulation_steps: {passes} forward passes of a step can't be shared evenly "
            f"by {choice.count} GPUs ({choice}), so the effective batch size would change.",
            f"Set it to a multiple of {choice.count}.",
        )
