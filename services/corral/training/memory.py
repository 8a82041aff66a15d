"""A run that has no memory left, said in our words: what it took, what was planned, what to change.

Knows nothing of where the memory went; the planner's formulas are in corral.planning.memory.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from corral import formatting
from corral.data.prepared import Examples
from corral.devices import supports_bf16
from corral.errors import CorralError, OutOfMemoryError
from corral.planning.devices import Device, this_machine
from corral.planning.memory import Memory, peak_memory
from corral.planning.shapes import read_shape
from corral.planning.workload import workload
from corral.spec import TrainingSpec

# What torch's CPU allocator and mmap say; both are plain RuntimeErrors.
_SAID_ON_CPU = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
Plan = Callable[[], Memory]


@contextmanager
def memory_errors(
    doing: str, spec: TrainingSpec, device: torch.device, plan: Plan | None = None
) -> Iterator[None]:
    """Turn every way in which memory runs out into an OutOfMemoryError.

    `plan` gives what the planner expects of one rank, where enough is known to plan. One rank may
    raise alone: the others learn of it when their collectives fail.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(doing, spec, _used(device), _planned(plan)) from error


def planned_memory(
    spec: TrainingSpec, base: Path, vocabulary: int, examples: Examples, device: torch.device
) -> Memory:
    """What the planner expects of one rank of a run that is prepared."""
    shape = read_shape(base).with_vocabulary(vocabulary)
    work = workload(spec, Counter(examples.lengths), sum(examples.labels))
    return peak_memory(spec, shape, _planner_device(device), work)


def _planned(plan: Plan | None) -> Memory | None:
    # Planning takes a little memory itself, and must not hide what it is asked for.
    with suppress(CorralError, MemoryError):
        return plan() if plan is not None else None
    return None


def _planner_device(device: torch.device) -> Device:
    if device.type != "cuda":
        return this_machine()
    properties = torch.cuda.get_device_properties(device)
    return Device(properties.name, properties.total_memory, has_bf16=supports_bf16(device))


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is about memory, of the machine or of a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(
        words in str(error) for words in _SAID_ON_CPU
    )


def out_of_memory(
    doing: str, spec: TrainingSpec, used: str, planned: Memory | None
) -> OutOfMemoryError:
    """The error, with what would take less, the cheapest change first."""
    plan = ""
    if planned is not None:
        plan = f" Planned were {formatting.size(planned.total)}: {planned.sentence()}."
    return OutOfMemoryError(
        f"There is not enough memory for {doing}: {used}.{plan}",
        f"To take less: {'; '.join(_changes(spec))}.",
    )


def _changes(spec: TrainingSpec) -> Iterator[str]:
    if spec.batch_size > 1:
        yield (
            f"batch_size {spec.batch_size // 2} with gradient_accumulation_steps"
            f" {spec.gradient_accumulation_steps * 2}, which changes nothing else"
        )
    if not spec.gradient_checkpointing:
        yield "gradient_checkpointing"
    yield f"a max_length below {spec.max_length}"
    if spec.tuning == "full":
        yield "tuning lora"
    if torch.cuda.is_available() and spec.fsdp == "full_shard":
        yield f"more processes than {spec.processes}, on as many GPUs"


def _used(device: torch.device) -> str:
    """What this rank took at its peak, and of how much."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        total = torch.cuda.get_device_properties(device).total_memory
        where = "the GPU has"
    else:
        # ru_maxrss counts kilobytes, on macOS bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        total = this_machine().memory
        where = "the machine has"
    return (
        f"this process took up to {formatting.size(peak)}, {where} {formatting.size(total)} in all"
    )
