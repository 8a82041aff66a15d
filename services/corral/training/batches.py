"""From examples to the tensors of one forward pass, without padding.

The examples of a micro-batch lie behind each other in one row, with position ids that restart at each
of them. transformers' attention masks keep such documents apart when no attention mask is passed
(checked by tests for every family on the list), so no token is spent on padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corral.data.examples import TokenizedExample


@dataclass(frozen=True)
class Batch:
    """One row of documents.

    input_ids, position_ids: [1, tokens] int64. `predicts` [labels] int64 are the positions whose
    next token is a label, `labels` [labels] int64 those tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    predicts: Tensor
    labels: Tensor

    @property
    def tokens(self) -> int:
        return self.input_ids.numel()


def label_count(example: TokenizedExample) -> int:
    """Tokens of the example that are trained on. The first token has nothing that predicts it."""
    return sum(example.trained[1:])


def make_batch(examples: Sequence[TokenizedExample], device: torch.device) -> Batch:
    """Lay the examples behind each other.

    No examples make a row of one token without labels: a rank that has no data left still has to
    take part in the collectives of a forward and backward pass.
    """
    ids: list[int] = []
    positions: list[int] = []
    predicts: list[int] = []
    for example in examples:
        start = len(ids)
        ids.extend(example.ids)
        positions.extend(range(len(example.ids)))
        predicts.extend(
            start + at - 1 for at, trained in enumerate(example.trained) if trained and at > 0
        )
    if not ids:
        ids, positions = [0], [0]
    labels = [ids[at + 1] for at in predicts]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Batch(tensor(ids)[None], tensor(positions)[None], tensor(predicts), tensor(labels))
