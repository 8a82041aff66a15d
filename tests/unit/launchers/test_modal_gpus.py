"""GPU lists for Modal: what is understood, what is refused, and what a run becomes on each."""

from __future__ import annotations

import pytest

from corral.errors import SpecError
from corral.launchers.modal.gpus import gpus_of, parse_gpus, spread_over
from corral.launchers.modal.inside import chosen_gpu
from corral.spec import TrainingSpec


def test_alternatives_keep_their_order() -> None:
    assert [str(one) for one in parse_gpus("h100, A100-80GB,A10:2")] == [
        "H100",
        "A100-80GB",
        "A10:2",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A10G", "no GPU 'A10G'"),
        ("H100,V100", "no GPU 'V100'"),
        ("", "no GPU ''"),
        ("A10:5", "1 to 4 are possible"),
        ("H100:9", "1 to 8 are possible"),
        ("H100:0", "1 to 8 are possible"),
        ("H100:x", "no count behind the colon"),
        ("H100,H100", "given twice"),
    ],
)
def test_what_modal_does_not_have_is_refused_before_anything_starts(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_gpus(text)


def test_a_run_without_a_gpu_of_its_own_gets_an_l4() -> None:
    assert [str(one) for one in gpus_of(TrainingSpec())] == ["L4"]


def test_the_effective_batch_is_the_same_on_every_alternative() -> None:
    spec = TrainingSpec(gpu="H100,A10:4", batch_size=2, gradient_accumulation_steps=8)
    for choice in gpus_of(spec):
        assert spread_over(spec, choice).effective_batch_size == spec.effective_batch_size
        assert spread_over(spec, choice).processes == choice.count


def test_a_batch_that_the_gpus_could_not_share_evenly_is_refused() -> None:
    with pytest.raises(SpecError, match="effective batch size would change"):
        gpus_of(TrainingSpec(gpu="H100,A10:4", gradient_accumulation_steps=6))


def test_a_t4_trains_in_fp32_unless_bf16_was_asked_for() -> None:
    [t4] = gpus_of(TrainingSpec(gpu="T4"))
    assert spread_over(TrainingSpec(gpu="T4"), t4).precision == "fp32"
    with pytest.raises(SpecError, match="does not compute in bf16"):
        gpus_of(TrainingSpec(gpu="L4,T4", precision="bf16"))


def test_several_nodes_are_refused() -> None:
    with pytest.raises(SpecError, match="one container"):
        gpus_of(TrainingSpec(nodes=2, processes=2))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["NVIDIA H100 80GB HBM3"], "H100"),
        (["NVIDIA A100-SXM4-40GB"], "A100-40GB"),
        (["NVIDIA A100 80GB PCIe"], "A100-80GB"),
        (["NVIDIA A10", "NVIDIA A10"], "A10:2"),
        # Given in place of an H100.
        (["NVIDIA H200"], "H100"),
        ([], "H100"),
    ],
)
def test_the_container_knows_which_alternative_it_got(names: list[str], expected: str) -> None:
    choices = parse_gpus("H100,A100-40GB,A100-80GB,A10:2")
    assert str(chosen_gpu(choices, names)) == expected
