"""bf16 computes, float32 remembers; and where nothing is float32, rounding does not stall."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn

from corral.spec import TrainingSpec
from corral.training.optimizer import count_step, make_optimizer, set_learning_rate
from corral.training.precision import ComputeCopy

BF16 = torch.bfloat16


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False))
    model[2].weight = model[0].weight
    return model


def test_a_copy_computes_in_its_type_and_ties_what_its_model_ties() -> None:
    model = network()
    copy = ComputeCopy(model, BF16)
    assert {parameter.dtype for parameter in copy.module.parameters()} == {BF16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert copy.module[2].weight is copy.module[0].weight is not model[0].weight


def test_gradients_add_up_in_float32_at_the_masters() -> None:
    model = network()
    copy = ComputeCopy(model, BF16)
    for scale in (1.0, 2.0**-12):
        (copy.module(torch.tensor([1, 2])).sum() * scale).backward()
    once = ComputeCopy(network(), BF16).module
    once(torch.tensor([1, 2])).sum().backward()
    assert all(parameter.grad is None for parameter in copy.module.parameters())
    for master, single in zip(model.parameters(), network().parameters(), strict=True):
        assert master.grad.dtype == torch.float32
        assert master.grad.shape == single.shape
    # bf16 would have rounded the smaller gradient away.
    assert model[1].bias.grad.tolist() == pytest.approx(
        [value * (1 + 2.0**-12) for value in _bias_gradient()], rel=1e-6
    )


def _bias_gradient() -> list[float]:
    model = network()
    copy = ComputeCopy(model, BF16)
    copy.module(torch.tensor([1, 2])).sum().backward()
    return model[1].bias.grad.tolist()


def test_a_refreshed_copy_has_the_masters_weights() -> None:
    model = network()
    copy = ComputeCopy(model, BF16)
    with torch.no_grad():
        model[1].weight += 1
    copy.refresh()
    assert torch.equal(copy.module[1].weight, model[1].weight.to(BF16))


def test_frozen_weights_of_the_right_type_are_shared() -> None:
    model = network()
    model[1].to(BF16).requires_grad_(False)
    assert ComputeCopy(model, BF16).module[1].weight is model[1].weight


def trained(dtype, optimizer_of, steps: int = 400):
    """Weights of 1 whose gradient is always 1, at a rate far below what bf16 can tell from 1."""
    weight = nn.Parameter(torch.ones(64, 64, dtype=dtype))
    model = nn.ParameterList([weight])
    optimizer = optimizer_of(model)
    for _ in range(steps):
        set_learning_rate(optimizer, 1e-4)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    return weight.detach().float()


def ours(model):
    return make_optimizer(model, TrainingSpec())


def test_stochastic_rounding_follows_float32_where_plain_bf16_stalls() -> None:
    exact = trained(torch.float32, ours)
    plain = trained(BF16, lambda model: torch.optim.AdamW(model.parameters(), weight_decay=0))
    rounded = trained(BF16, ours)
    assert exact.mean().item() == pytest.approx(0.96, abs=1e-3)
    assert torch.equal(plain, torch.ones_like(plain))
    assert rounded.mean().item() == pytest.approx(exact.mean().item(), abs=1e-3)


def test_stochastic_rounding_is_the_same_each_time() -> None:
    assert torch.equal(trained(BF16, ours, steps=5), trained(BF16, ours, steps=5))


def test_a_step_that_counts_without_labels_moves_nothing() -> None:
    model = network()
    optimizer = make_optimizer(model, TrainingSpec())
    before = [parameter.clone() for parameter in model.parameters()]
    count_step(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}
