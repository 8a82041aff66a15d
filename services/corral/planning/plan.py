"""A plan: whether a run fits, how long it takes, what it leaves on disk, and what to change if it does
not fit.

Puts together shapes, workload, memory and pace. Knows nothing of gRPC, prices or where files lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from corral import formatting
from corral.errors import JobTooLargeError
from corral.planning.devices import Device
from corral.planning.memory import Memory, checkpoint_bytes, peak_memory
from corral.planning.pace import Pace, pace_on
from corral.planning.shapes import ModelShape
from corral.planning.workload import Workload, workload
from corral.spec import TrainingSpec

_MOST_BATCH = 4096
_FLOOR_LENGTH = 64


@dataclass(frozen=True)
class Proposal:
    """Other settings, the memory that they would take, and whether that fits."""

    changes: Mapping[str, Any]
    why: str
    memory: Memory
    fits: bool


@dataclass(frozen=True)
class Plan:
    """What a run will take. Memory is bytes of one rank, times are seconds, disk is bytes."""

    spec: TrainingSpec
    shape: ModelShape
    device: Device
    work: Workload
    memory: Memory
    fits: bool
    # Examples per process and forward pass; 0 where not even one fits.
    largest_batch_size: int
    pace: Pace | None
    shortest: float
    longest: float
    # Of one checkpoint to go on from, and of all that are kept at a time.
    checkpoint_bytes: int
    disk_bytes: int
    proposals: tuple[Proposal, ...]

    def with_pace(self, pace: Pace) -> Plan:
        """The plan with its times at a pace."""
        shortest, longest = pace.seconds(self.work.tokens, self.spec.processes)
        return replace(self, pace=pace, shortest=shortest, longest=longest)

    def raise_if_too_large(self) -> None:
        """Raises JobTooLargeError with the numbers, and with what would fit, unless the run fits."""
        if self.fits:
            return
        fitting = [proposal.why for proposal in self.proposals if proposal.fits]
        holder = self.device.name if self.device.is_gpu else "this machine"
        raise JobTooLargeError(
            f"The run needs {formatting.size(needed(self.memory, self.spec, self.device))} of memory,"
            f" {holder} has {formatting.size(self.device.memory)}: {self.memory.sentence()}.",
            f"What would fit: {'; '.join(fitting)}." if fitting else "Take a smaller model.",
        )


def make_plan(
    spec: TrainingSpec,
    shape: ModelShape,
    device: Device,
    lengths: Mapping[int, int],
    label_tokens: int,
) -> Plan:
    """Plan a run whose spec is complete.

    `lengths` counts rows by their tokens before cutting, `label_tokens` labels after.
    """
    spec = spec.with_learning_rate_for(shape.parameters)
    work = workload(spec, lengths, label_tokens)
    memory = peak_memory(spec, shape, device, work)
    fits = needed(memory, spec, device) <= device.memory
    pace = pace_on(device, shape, work.mean_length, work.label_share, spec.gradient_checkpointing)
    one = checkpoint_bytes(spec, shape)
    kept = min(spec.keep_checkpoints, -(-work.steps // spec.checkpoint_every))
    plan = Plan(
        spec=spec,
        shape=shape,
        device=device,
        work=work,
        memory=memory,
        fits=fits,
        largest_batch_size=_largest_batch_size(spec, shape, device, work),
        pace=None,
        shortest=0.0,
        longest=0.0,
        checkpoint_bytes=one,
        # One more than is kept while the next one is written.
        disk_bytes=one * (kept + 1),
        proposals=tuple(_proposals(spec, shape, device, work)) if not fits else (),
    )
    return plan if pace is None else plan.with_pace(pace)


def needed(memory: Memory, spec: TrainingSpec, device: Device) -> int:
    """Bytes that a run takes of one device: of a shared one, what all its ranks take."""
    return memory.total * (spec.processes_per_node if device.is_shared else 1)


def _fits(spec: TrainingSpec, shape: ModelShape, device: Device, work: Workload) -> bool:
    return needed(peak_memory(spec, shape, device, work), spec, device) <= device.memory


def _largest_batch_size(
    spec: TrainingSpec, shape: ModelShape, device: Device, work: Workload
) -> int:
    """The most examples in a forward pass that fit, by bisection."""
    low, high = 0, _MOST_BATCH
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(spec.model_copy(update={"batch_size": middle}), shape, device, work):
            low = middle
        else:
            high = middle - 1
    return low


def _proposals(
    spec: TrainingSpec, shape: ModelShape, device: Device, work: Workload
) -> Iterator[Proposal]:
    """What could be changed, one thing at a time, then all that does not change the result."""
    for changes, why in _changes(spec, device):
        changed = spec.model_copy(update=changes)
        memory = peak_memory(changed, shape, device, work)
        yield Proposal(changes, why, memory, needed(memory, changed, device) <= device.memory)


def _changes(spec: TrainingSpec, device: Device) -> Iterator[tuple[dict[str, Any], str]]:
    small = {
        "batch_size": 1,
        # The same examples a step, so the same training.
        "gradient_accumulation_steps": spec.gradient_accumulation_steps * spec.batch_size,
    }
    if spec.batch_size > 1:
        yield small, f"batch_size 1 with accumulation {small['gradient_accumulation_steps']}"
    if not spec.gradient_checkpointing:
        yield {"gradient_checkpointing": True}, "gradient_checkpointing, about a third slower"
        if spec.batch_size > 1:
            yield small | {"gradient_checkpointing": True}, "both of these"
    if spec.max_length > _FLOOR_LENGTH:
        half = max(_FLOOR_LENGTH, spec.max_length // 2)
        yield {"max_length": half}, f"max_length {half}, which cuts longer rows"
    if spec.tuning == "full":
        yield {"tuning": "lora"}, "tuning lora, which trains adapters only"
        yield (
            small | {"gradient_checkpointing": True, "tuning": "lora"},
            "lora with batch_size 1 and gradient_checkpointing",
        )
    if device.is_gpu and spec.fsdp == "full_shard":
        for processes in (2, 4, 8):
            if processes > spec.processes:
                yield (
                    {"processes": processes},
                    f"{processes} GPUs, over which FSDP splits the model",
                )
