"""Mixed precision for weights that are whole on each process: float32 masters, a copy to compute with.

FSDP keeps float32 masters and casts by itself; autocast would cast every weight anew in each forward
pass, and its gradient back in each backward pass. Here the copy is made again only when the masters
have changed, once per optimizer step.

Weights, optimizer and checkpoints know only the masters; gradients arrive there in float32, so that
many micro-batches add up without being rounded to bf16 in between. Knows nothing of steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ComputeCopy:
    """A copy of a model in another type, which takes its weights from it and gives it gradients.

    Frozen weights that have the type already are shared. Buffers (rotary frequencies) keep their
    type. Costs the bytes of the trained weights in that type.
    """

    def __init__(self, masters: nn.Module, dtype: torch.dtype) -> None:
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        # deepcopy takes what the memo holds in place of a copy of its own.
        memo: dict[int, Any] = {}
        for master in masters.parameters():
            if master.dtype == dtype and not master.requires_grad:
                memo[id(master)] = master
                continue
            mine = nn.Parameter(master.detach().to(dtype, copy=True), master.requires_grad)
            memo[id(master)] = mine
            self._pairs.append((mine, master))
            if master.requires_grad:
                mine.register_post_accumulate_grad_hook(_hand_over_to(master))  # type: ignore[no-untyped-call]
        self.module: nn.Module = copy.deepcopy(masters, memo)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the masters' weights, after an optimizer step has changed them."""
        trained = [pair for pair in self._pairs if pair[1].requires_grad]
        torch._foreach_copy_([mine for mine, _ in trained], [master for _, master in trained])


def _hand_over_to(master: nn.Parameter) -> Callable[[Tensor], None]:
    """A hook that adds a weight's gradient to its master's, in the master's type."""

    def hand_over(mine: Tensor) -> None:
        assert mine.grad is not None
        if master.grad is None:
            master.grad = mine.grad.to(master.dtype)
        else:
            master.grad += mine.grad
        mine.grad = None

    return hand_over
