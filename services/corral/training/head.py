"""The vocabulary head and the loss together, in chunks: logits of all labels never exist at once.

50,000 columns for each of 4,000 labels would be 800 MB in float32, and their gradient as much again.
Here a chunk's logits are turned into their own gradient in place, and into the gradients of hidden
states and weights before the next chunk comes; the idea is Liger Kernel's (Hsu et al. 2024), the
code is not. Knows nothing of models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Labels whose logits exist at the same time: 100 MB in bf16 with 50,000 columns.
_CHUNK = 1024
# Labels whose logits exist in float32: small enough for a CPU's cache.
_ROWS = 32


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor, softcap: float | None) -> Tensor:
    """Cross-entropy of softmax(hidden @ weight^T), summed over the labels, in nats: [] float32.

    hidden: [labels, dim], weight: [vocabulary, dim], labels: [labels] int64. `softcap` is Gemma's:
    cap * tanh(logits / cap). Matrix products are in the type of the arguments, the rest is float32.
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, labels, softcap)  # type: ignore[no-untyped-call]
    return loss


class _HeadLoss(torch.autograd.Function):
    """Computes the gradients in the forward pass, since all that they need exists there."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, softcap: float | None
    ) -> Tensor:
        loss = torch.zeros((), device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        hidden_grad = torch.empty_like(hidden)
        # Chunks are added up in float32.
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for begin in range(0, len(labels), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            logits = hidden[chunk] @ weight.T
            loss += _loss_and_gradient(logits, labels[chunk], softcap)
            if wants_hidden:
                hidden_grad[chunk] = logits @ weight
            if weight_grad is not None:
                weight_grad += logits.T @ hidden[chunk]
        if weight_grad is not None:
            weight_grad = weight_grad.to(weight.dtype)
        ctx.save_for_backward(hidden_grad, weight_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return (
            hidden_grad * grads[0],
            None if weight_grad is None else weight_grad * grads[0],
            None,
            None,
        )


def _loss_and_gradient(logits: Tensor, labels: Tensor, softcap: float | None) -> Tensor:
    """The summed loss of [labels, vocabulary] logits, which become its gradient in place."""
    loss = torch.zeros((), device=logits.device)
    for begin in range(0, len(labels), _ROWS):
        rows = slice(begin, begin + _ROWS)
        wanted = labels[rows, None]
        scores = logits[rows].float()
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        peak, at = scores.max(dim=-1, keepdim=True)
        chances = torch.softmax(scores, dim=-1)
        # By the largest probability, which is never rounded to zero as the label's may be.
        loss += (peak - chances.gather(1, at).log() - scores.gather(1, wanted)).sum()
        chances.scatter_add_(1, wanted, torch.full_like(peak, -1.0))
        if softcap:
            chances *= 1 - (scores / softcap) ** 2
        logits[rows] = chances
    return loss
