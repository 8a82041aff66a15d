"""Loss on held-out examples. Knows nothing of steps or checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import nn

from corral.data.examples import TokenizedExample
from corral.training.batches import label_count, make_batch
from corral.training.order import split_evenly
from corral.training.parallel import Ranks


@torch.no_grad()
def held_out_loss(
    loss: nn.Module, examples: Sequence[TokenizedExample], batch_size: int, ranks: Ranks
) -> float:
    """Mean over all label tokens of the examples, in nats. A collective: every rank gets it."""
    batches = split_evenly(list(range(len(examples))), batch_size)
    loss.eval()
    summed = 0.0
    # Every rank makes equally many forward passes: each one is a collective under FSDP.
    for turn in range(ceil(len(batches) / ranks.world_size)):
        number = turn * ranks.world_size + ranks.rank
        chosen = batches[number] if number < len(batches) else ()
        summed += float(loss(make_batch([examples[index] for index in chosen], ranks.device)))
    loss.train()
    (total,) = ranks.total(summed)
    return total / sum(label_count(example) for example in examples)
