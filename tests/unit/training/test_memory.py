"""Running out of memory is said with what was taken, what was planned and what to change."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from corral.errors import OutOfMemoryError
from corral.planning.memory import Memory
from corral.spec import TrainingSpec
from corral.training.memory import memory_errors

GIB = 1024**3
PLANNED = Memory(
    runtime=0,
    weights=GIB,
    gradients=0,
    optimizer=0,
    activations=3 * GIB,
    logits=0,
    saving=0,
)
CPU = torch.device("cpu")


def out_of_memory(spec: TrainingSpec) -> OutOfMemoryError:
    with (
        pytest.raises(OutOfMemoryError) as raised,
        memory_errors("a step", spec, CPU, lambda: PLANNED),
    ):
        torch.empty(1 << 55, dtype=torch.uint8)
    return raised.value


def test_it_says_what_was_taken_and_what_was_planned() -> None:
    error = out_of_memory(TrainingSpec())
    assert "a step" in error.message
    assert "the machine has" in error.message
    assert "Planned were 4.0 GiB: activations 3.0 GiB, weights 1.0 GiB" in error.message


def test_it_proposes_only_what_would_change_something() -> None:
    hint = out_of_memory(TrainingSpec(batch_size=4)).hint
    assert "batch_size 2 with gradient_accumulation_steps 16" in hint
    assert "tuning lora" in hint
    small = TrainingSpec(batch_size=1, tuning="lora", gradient_checkpointing=True, max_length=256)
    assert out_of_memory(small).hint == "To take less: a max_length below 256."


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_every_way_of_running_out_counts(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError), memory_errors("a step", TrainingSpec(), CPU):
        raise error


def test_other_errors_pass() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        memory_errors("a step", TrainingSpec(), CPU),
    ):
        raise RuntimeError("shapes do not match")
