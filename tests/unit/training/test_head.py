"""The loss in chunks is the loss of all logits at once."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch.nn import functional

from corral.training.head import head_loss


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("labels", [0, 1, 33, 1100])
def test_the_chunked_loss_and_its_gradients_are_those_of_the_whole(
    labels: int, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(labels)
    hidden = torch.randn(labels, 8, generator=generator).requires_grad_()
    weight = torch.randn(50, 8, generator=generator).requires_grad_()
    wanted = torch.randint(50, (labels,), generator=generator)
    logits = hidden @ weight.T
    if softcap:
        logits = torch.tanh(logits / softcap) * softcap
    whole = functional.cross_entropy(logits, wanted, reduction="sum")
    chunked = head_loss(hidden, weight, wanted, softcap)
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad(whole / 7, (hidden, weight))
    got = torch.autograd.grad(chunked / 7, (hidden, weight))
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_label_that_is_almost_impossible_has_a_finite_loss() -> None:
    hidden, weight = torch.tensor([[100.0]]), torch.tensor([[1.0], [-1.0]])
    assert head_loss(hidden, weight, torch.tensor([1]), None).item() == pytest.approx(200)


def test_without_gradients_only_the_loss_is_computed() -> None:
    with torch.no_grad():
        loss = head_loss(torch.zeros(3, 4), torch.zeros(8, 4), torch.tensor([1, 2, 3]), None)
    assert loss.item() == pytest.approx(3 * torch.log(torch.tensor(8.0)).item())
