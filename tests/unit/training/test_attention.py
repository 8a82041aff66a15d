"""Documents of one row read themselves and the beginning they share, and nothing else."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch.nn import functional

from corral.training.attention import Document, _DocumentAttention

# A beginning of 5 tokens, two documents that go on from it, and one of its own: 300 tokens are more
# than a block.
SHARED = Document(0, 5)
DOCUMENTS = (SHARED, Document(5, 12, 0, 5), Document(12, 20, 0, 5), Document(20, 320))
SCALE = 0.3


def heads(count: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 320, 8, generator=generator, dtype=torch.float64).requires_grad_()


def reference(query, key, value, window):
    """Softmax over all pairs, by a mask that is written down pair by pair."""
    allowed = torch.zeros(320, 320, dtype=torch.bool)
    for document in DOCUMENTS:
        read = [*range(document.prefix_start, document.prefix_stop)]
        read += range(document.start, document.stop)
        for at in range(document.start, document.stop):
            until = read.index(at) + 1
            allowed[at, read[max(0, until - (window or until)) : until]] = True
    repeated = (each.repeat_interleave(len(query) // len(key), dim=0) for each in (key, value))
    return functional.scaled_dot_product_attention(
        query, *repeated, attn_mask=allowed, scale=SCALE
    ).transpose(0, 1)


@pytest.mark.parametrize("window", [None, 1, 6, 290])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_documents_and_their_gradients_are_those_of_a_mask_over_the_row(
    window: int | None, key_heads: int
) -> None:
    arguments = heads(4, 1), heads(key_heads, 2), heads(key_heads, 3)
    ours = _DocumentAttention.apply(*arguments, DOCUMENTS, SCALE, window, 0.0)
    expected = reference(*arguments, window)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    gradients = (
        torch.autograd.grad((each * weights).sum(), arguments) for each in (ours, expected)
    )
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean_and_its_gradient_is_that_of_what_was_kept() -> None:
    query, key, value = heads(2, 1), heads(2, 2), heads(2, 3)

    def attend(values):
        torch.manual_seed(0)
        return _DocumentAttention.apply(query, key, values, DOCUMENTS, SCALE, None, 0.25)

    step = 1e-6 * torch.randn_like(value)
    (slope,) = torch.autograd.grad(attend(value).sum(), value)
    change = (attend(value + step) - attend(value)).sum()
    assert change.item() == pytest.approx((slope * step).sum().item(), rel=1e-4)
    torch.manual_seed(0)
    ones = torch.ones_like(value)
    kept = _DocumentAttention.apply(query, key, ones, DOCUMENTS, SCALE, None, 0.25)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
