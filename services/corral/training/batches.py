"""From examples to the tensors of one forward pass, without padding.

The examples of a micro-batch lie behind each other in one row, each a document of its own. Those that
begin with the same tokens, as an Alpaca preamble makes them, have these tokens in the row once: every
document goes on from there. Their gradients are the sums over the documents, by autograd. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corral.data.examples import TokenizedExample
from corral.training.attention import Document

# A shorter beginning in common costs more in gathering keys than it saves.
_LEAST_SHARED = 16


@dataclass(frozen=True)
class Batch:
    """One row of documents.

    input_ids, position_ids: [1, tokens] int64. `predicts` [labels] int64 are the positions whose
    next token is a label, `labels` [labels] int64 those tokens. `tokens` counts those of the
    examples, a shared beginning in each of them.
    """

    input_ids: Tensor
    position_ids: Tensor
    documents: tuple[Document, ...]
    predicts: Tensor
    labels: Tensor
    tokens: int


def label_count(example: TokenizedExample) -> int:
    """Tokens of the example that are trained on. The first token has nothing that predicts it."""
    return sum(example.trained[1:])


def make_batch(examples: Sequence[TokenizedExample], device: torch.device) -> Batch:
    """Lay the examples behind each other, beginnings that several share before them.

    No examples make a row of one token without labels: a rank that has no data left still has to
    take part in the collectives of a forward and backward pass.
    """
    row = _Row()
    for shared, members in _beginnings(examples):
        begin = len(row.ids)
        if shared:
            row.add(members[0].ids[:shared], 0, Document(begin, begin + shared))
        for example in members:
            start = len(row.ids)
            stop = start + len(example.ids) - shared
            document = Document(start, stop, begin, begin + shared)
            row.add(example.ids[shared:], shared, document)
            row.add_labels(example, document)
    if not row.ids:
        row.add([0], 0, Document(0, 1))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Batch(
        input_ids=tensor(row.ids)[None],
        position_ids=tensor(row.positions)[None],
        documents=tuple(row.documents),
        predicts=tensor(row.predicts),
        labels=tensor(row.labels),
        tokens=sum(len(example.ids) for example in examples),
    )


@dataclass
class _Row:
    """A row as it grows."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    predicts: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], first_position: int, document: Document) -> None:
        self.ids.extend(ids)
        self.positions.extend(range(first_position, first_position + len(ids)))
        self.documents.append(document)

    def add_labels(self, example: TokenizedExample, document: Document) -> None:
        """The example's labels. A label in the shared beginning counts for each document anew."""
        shared = document.prefix_length
        for at, is_trained in enumerate(example.trained):
            if is_trained and at > 0:
                before = at - 1
                place = document.start - shared if before >= shared else document.prefix_start
                self.predicts.append(place + before)
                self.labels.append(example.ids[at])


def _beginnings(
    examples: Sequence[TokenizedExample],
) -> list[tuple[int, list[TokenizedExample]]]:
    """The examples in groups, each with the number of first tokens that all of its members share."""
    groups: dict[tuple[int, ...], list[TokenizedExample]] = {}
    for example in examples:
        groups.setdefault(tuple(example.ids[:_LEAST_SHARED]), []).append(example)
    return [(_shared_length(members), members) for members in groups.values()]


def _shared_length(members: Sequence[TokenizedExample]) -> int:
    """How many first tokens all have in common; of each at least its last token stays its own."""
    if len(members) == 1:
        return 0
    columns = enumerate(zip(*(example.ids for example in members), strict=False))
    shortest = min(len(example.ids) for example in members)
    common = next((at for at, column in columns if len(set(column)) > 1), shortest)
    shared = min(common, shortest - 1)
    return shared if shared >= _LEAST_SHARED else 0
