"""Single steps of a run that is really prepared: steps without labels, and each kind of precision."""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from tests.forked_training import train_all
from tests.runs import losses, write_run
from tests.tiny_models import tiny_llama

from corral.data.prepared import Examples
from corral.run import TrainingRun
from corral.training.lora import is_adapter
from corral.training.parallel import Ranks
from corral.training.preparing import Prepared, prepare
from corral.training.step import StepResult, optimizer_step
from corral.volume import Volume

ALONE = Ranks(0, 1, torch.device("cpu"))
LIKE_FULL_PRECISION = 0.03


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "llama")


def prepared_run(volume: Volume, model: Path, **spec: Any) -> Prepared:
    fields = {"eval_prompts": 0, "epochs": 10, "warmup_ratio": 0} | spec
    run_file = write_run(volume, model, **fields)
    return prepare(TrainingRun.read(run_file), volume, ALONE, lambda event: None)


def take_steps(prepared: Prepared, count: int) -> list[StepResult]:
    plans = islice(prepared.order.steps(prepared.state.cursor), count)
    return [
        optimizer_step(prepared, plan, number, ALONE, stop=False)
        for number, plan in enumerate(plans, start=1)
    ]


def without_labels(examples: Examples) -> Examples:
    nothing = memoryview(bytes(len(examples.trained)))
    return replace(examples, trained=nothing, labels=array("I", [0] * len(examples)))


def copies(tensors: Any) -> list[Any]:
    return [tensor.detach().clone() for tensor in tensors]


def moments(prepared: Prepared) -> list[Any]:
    states = prepared.optimizer.state.values()
    return [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-pure"])
def test_a_step_without_any_label_changes_nothing(
    volume: Volume, llama: Path, precision: str
) -> None:
    prepared = prepared_run(volume, llama, precision=precision)
    take_steps(prepared, 1)
    before = copies([*prepared.model.parameters(), *moments(prepared)])

    masked = replace(prepared, train=without_labels(prepared.train))
    (result,) = take_steps(masked, 1)

    assert (result.loss, result.gradient_norm) == (0, 0)
    after = [*prepared.model.parameters(), *moments(prepared)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # The learning rate goes by the run's steps, and so does Adam's bias correction.
    assert {float(state["step"]) for state in prepared.optimizer.state.values()} == {2.0}
    assert take_steps(prepared, 1)[0].loss > 0


def test_adapters_are_computed_in_bf16_and_remembered_in_float32(
    volume: Volume, llama: Path
) -> None:
    exact = take_steps(prepared_run(volume, llama, tuning="lora", precision="fp32"), 6)
    prepared = prepared_run(volume, llama, tuning="lora", precision="bf16")
    network, copy = prepared.model, prepared.loss.model
    frozen = {name: p.clone() for name, p in network.named_parameters() if not is_adapter(name)}

    mixed = take_steps(prepared, 6)

    assert [step.loss for step in mixed] == pytest.approx(
        [step.loss for step in exact], rel=LIKE_FULL_PRECISION
    )
    in_copy = dict(copy.named_parameters())
    for name, parameter in network.named_parameters():
        if is_adapter(name):
            assert parameter.dtype == torch.float32
            assert torch.equal(in_copy[name], parameter.to(torch.bfloat16))
        else:
            assert in_copy[name] is parameter
            assert torch.equal(parameter, frozen[name])


def test_weights_held_in_bf16_train_alike_on_two_ranks_and_as_float32_does(
    volume: Volume, llama: Path
) -> None:
    def run_file(job_id: str, processes: int, precision: str) -> tuple[Path, int]:
        fields = {"processes": processes, "gradient_accumulation_steps": 2 // processes}
        fields |= {"epochs": 4, "eval_prompts": 0}
        path = write_run(volume, llama, job_id=job_id, precision=precision, **fields)
        return path, processes

    exact, one, two = map(
        losses,
        train_all(
            [
                run_file("fp32", 1, "fp32"),
                run_file("one", 1, "bf16-pure"),
                run_file("two", 2, "bf16-pure"),
            ]
        ),
    )
    assert len(two) == 12
    assert one == pytest.approx(exact, rel=LIKE_FULL_PRECISION)
    assert two == pytest.approx(exact, rel=LIKE_FULL_PRECISION)
