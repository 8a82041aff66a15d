"""Which tokens come next: the distribution that each request's options make of its logits, and the draw.

Works on all requests of a batch at once, yet each row is computed exactly as it would be alone, with
random numbers of its own: a seeded answer is the same whatever else is in the batch. Knows nothing of
models, text or caches.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corral.errors import ModelUnsupportedError
from corral.generation.answers import Likelihood
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.generation.constraints import Constraint

# Below it, dividing by the temperature overflows; the distribution is one token's anyway.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True)
class Drawn:
    """A token, and its likelihood where the options ask for it."""

    token: int
    likelihood: Likelihood | None = None


class Row:
    """One request's part of sampling: its options, its random numbers, the tokens it has seen."""

    def __init__(
        self,
        options: SamplingOptions,
        prompt_ids: Sequence[int],
        constraint: Constraint | None = None,
    ) -> None:
        self.options = options
        self.constraint = constraint
        # Python's Mersenne twister: a seed gives the same numbers on every machine and version.
        self.random = random.Random(options.seed)  # noqa: S311 - no secret
        self.prompt = frozenset(prompt_ids) if options.repetition_penalty != 1.0 else frozenset()
        self.answer: Counter[int] = Counter()

    @property
    def is_greedy(self) -> bool:
        return self.options.temperature < GREEDY_BELOW or self.options.top_k == 1

    @property
    def changes_logits(self) -> bool:
        """Whether penalties, biases or a constraint have anything to do."""
        options = self.options
        return bool(
            self.constraint is not None
            or options.repetition_penalty != 1.0
            or options.presence_penalty
            or options.frequency_penalty
            or options.logit_bias
        )


def sample(logits: Tensor, rows: Sequence[Row]) -> list[Drawn | ModelUnsupportedError]:
    """The next token of each row, of logits of [rows, vocabulary] float32; an error in place of those
    whose logits are not finite numbers.
    """
    raw = logits
    greatest = logits.amax(dim=-1).tolist()
    if any(row.changes_logits for row in rows):
        logits = torch.stack([_changed(own, row) for own, row in zip(logits, rows, strict=True)])
    tokens = _pick(logits, rows, [math.isfinite(value) for value in greatest])
    drawn: list[Drawn | ModelUnsupportedError] = []
    for at, (token, row) in enumerate(zip(tokens, rows, strict=True)):
        if token is None:
            drawn.append(_not_finite())
            continue
        row.answer[token] += 1
        if row.constraint is not None:
            row.constraint.push(token)
        drawn.append(Drawn(token, _likelihood(raw[at], token, row.options.logprobs)))
    return drawn


def _pick(logits: Tensor, rows: Sequence[Row], sound: Sequence[bool]) -> list[int | None]:
    """A token of each sound row. Rows that keep the same number of tokens are drawn together."""
    tokens: list[int | None] = [None] * len(rows)
    groups: dict[int, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        if sound[at]:
            groups[1 if row.is_greedy else row.options.top_k].append(at)
    for kept, members in groups.items():
        own = logits if len(members) == len(rows) else logits[members]
        found = (
            own.argmax(dim=-1).tolist() if kept == 1 else draw(own, [rows[at] for at in members])
        )
        for at, token in zip(members, found, strict=True):
            tokens[at] = token
    return tokens


def draw(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """A token of each row, by inverting its distribution at a random number of the row's own. All
    rows have the same top-k.
    """
    tokens, probabilities = distribution(logits, [row.options for row in rows])
    sums = probabilities.cumsum(dim=-1)
    shares = [row.random.random() for row in rows]
    points = torch.tensor(shares, dtype=torch.float64, device=logits.device)[:, None] * sums[:, -1:]
    # A point equal to a sum belongs to the next token: one with probability 0 is never drawn.
    places = torch.searchsorted(sums, points, right=True)
    # Rounding can lift a point to the last sum.
    places = places.minimum((probabilities > 0).sum(dim=-1, keepdim=True) - 1)
    chosen: list[int] = tokens.gather(1, places)[:, 0].tolist()
    return chosen


def distribution(logits: Tensor, options: Sequence[SamplingOptions]) -> tuple[Tensor, Tensor]:
    """The likeliest tokens, [rows, n] ids, likeliest first, and their probabilities, [rows, n]
    float64, 0 for those that may not be drawn. All rows have the same top-k.

    Temperature; then top-k; then top-p (nucleus: Holtzman et al. 2020) on what top-k left, its
    probabilities summing to 1 again; then min-p (Nguyen et al. 2024).
    """
    kept = min(options[0].top_k or logits.shape[1], logits.shape[1])
    scores, tokens = torch.topk(logits, kept, dim=-1)
    scores = scores.double()

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    # The greatest first becomes 0: no overflow, whatever the temperature.
    scores = (scores - scores[:, :1]) / column([one.temperature for one in options])
    probabilities = torch.softmax(scores, dim=-1)
    if any(one.top_p < 1 for one in options):
        before = probabilities.cumsum(dim=-1) - probabilities
        limits = column([one.top_p if one.top_p < 1 else math.inf for one in options])
        probabilities = probabilities.masked_fill(before >= limits, 0.0)
    if any(one.min_p for one in options):
        least = probabilities[:, :1] * column([one.min_p for one in options])
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return tokens, probabilities / probabilities.sum(dim=-1, keepdim=True)


def _changed(logits: Tensor, row: Row) -> Tensor:
    """A copy of one row's logits with its penalties and biases; what its constraint forbids is -inf."""
    options = row.options
    changed = logits.clone()
    seen = row.prompt | row.answer.keys()
    if options.repetition_penalty != 1.0 and seen:
        _penalize(changed, sorted(seen), options.repetition_penalty)
    if row.answer and (options.presence_penalty or options.frequency_penalty):
        amounts = [
            options.presence_penalty + options.frequency_penalty * count
            for count in row.answer.values()
        ]
        _add(changed, list(row.answer), [-amount for amount in amounts])
    if options.logit_bias:
        known = {id_: bias for id_, bias in options.logit_bias.items() if id_ < len(changed)}
        _add(changed, list(known), list(known.values()))
    if row.constraint is not None:
        allowed = row.constraint.allowed(len(changed)).to(changed.device)
        changed.masked_fill_(~allowed, -math.inf)
    return changed


def _penalize(logits: Tensor, seen: Sequence[int], penalty: float) -> None:
    """CTRL (Keskar et al. 2019), section 4.1, with the sign rule that later implementations added: a
    negative logit is multiplied, since dividing would make it likelier.
    """
    ids = torch.tensor(seen, device=logits.device)
    scores = logits[ids]
    logits[ids] = torch.where(scores < 0, scores * penalty, scores / penalty)


def _add(logits: Tensor, ids: Sequence[int], amounts: Sequence[float]) -> None:
    values = torch.tensor(amounts, dtype=logits.dtype, device=logits.device)
    logits[torch.tensor(ids, dtype=torch.long, device=logits.device)] += values


def _likelihood(logits: Tensor, token: int, alternatives: int | None) -> Likelihood | None:
    if alternatives is None:
        return None
    logprobs = torch.log_softmax(logits, dim=-1)
    best = torch.topk(logprobs, min(alternatives, len(logprobs)))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Likelihood(token, float(logprobs[token]), top)


def _not_finite() -> ModelUnsupportedError:
    return ModelUnsupportedError(
        "The model's output is not a finite number.",
        "Its training may have diverged: chat with an earlier checkpoint.",
    )
