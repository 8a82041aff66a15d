"""The distribution that tokens are drawn from, held against plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corral.errors import ModelUnsupportedError
from corral.sampling import SamplingOptions

torch = pytest.importorskip("torch")
from corral.generation.sampler import Sampler, distribution, penalize

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
# Of float32, as models give them.
LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20, unique=True)
OPTIONS = st.builds(
    SamplingOptions,
    temperature=st.floats(0.05, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 25),
)


def plain_distribution(logits: Sequence[float], options: SamplingOptions) -> dict[int, float]:
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    order = order[: options.top_k or None]
    weights = [math.exp((logits[t] - logits[order[0]]) / options.temperature) for t in order]
    total = sum(weights)
    kept: dict[int, float] = {}
    mass = 0.0
    for token, weight in zip(order, weights, strict=True):
        if options.top_p < 1 and mass >= options.top_p:
            break
        # Whether rounding puts the last token in or out is nobody's promise.
        assume(abs(mass - options.top_p) > 1e-9)
        kept[token] = weight / total
        mass += weight / total
    return {token: share / sum(kept.values()) for token, share in kept.items()}


@given(LOGITS, OPTIONS)
def test_the_distribution_is_the_plain_one(logits: list[float], options: SamplingOptions) -> None:
    tokens, probabilities = distribution(torch.tensor(logits), options)
    found = dict(zip(tokens.tolist(), probabilities.tolist(), strict=True))
    assert found == pytest.approx(plain_distribution(logits, options))


@given(LOGITS, st.sets(st.integers(0, 19)), st.floats(0.5, 3))
def test_seen_tokens_are_penalized_once_and_the_others_not(
    logits: list[float], seen: set[int], penalty: float
) -> None:
    seen = {token for token in seen if token < len(logits)}
    expected = [
        (logit / penalty if logit > 0 else logit * penalty) if token in seen else logit
        for token, logit in enumerate(logits)
    ]
    ids = torch.tensor(sorted(seen), dtype=torch.long)
    assert penalize(torch.tensor(logits), ids, penalty).tolist() == pytest.approx(expected)


def sampler(prompt_ids: Sequence[int] = (), **options: Any) -> Sampler:
    return Sampler(SamplingOptions(**options), prompt_ids=prompt_ids, device=CPU)


@given(LOGITS, st.sampled_from([{"temperature": 0}, {"temperature": 1e-300}, {"top_k": 1}]))
def test_greedy_takes_the_likeliest(logits: list[float], options: dict[str, Any]) -> None:
    assert sampler(**options).pick(torch.tensor(logits)) == logits.index(max(logits))


def test_greedy_with_a_penalty_never_repeats_itself_on_close_logits() -> None:
    chosen = sampler(prompt_ids=[3], temperature=0, repetition_penalty=1.5)
    logits = torch.tensor([1.0, 1.1, 1.2, 1.3])
    assert [chosen.pick(logits) for _ in range(3)] == [2, 1, 0]


def test_the_same_seed_draws_the_same_tokens_whatever_else_is_drawn() -> None:
    logits = torch.zeros(1000)
    options = {"seed": 11, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    alone, beside, other = sampler(**options), sampler(**options), sampler(seed=12)
    expected = [alone.pick(logits) for _ in range(20)]
    found = []
    for _ in range(20):
        other.pick(logits)
        torch.rand(3)
        found.append(beside.pick(logits))
    assert found == expected


def test_without_a_seed_two_answers_differ() -> None:
    logits = torch.zeros(1000)
    draws = [[one.pick(logits) for _ in range(20)] for one in (sampler(top_k=0), sampler(top_k=0))]
    assert draws[0] != draws[1]


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    drawing = sampler(seed=5, temperature=1, top_p=1)
    draws = [drawing.pick(logits) for _ in range(4000)]
    # Four standard deviations of the commonest are 0.032.
    assert [draws.count(token) / 4000 for token in range(3)] == pytest.approx(
        [0.5, 0.3, 0.2], abs=0.035
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_output_that_is_no_number_is_an_error_not_a_token(bad: float) -> None:
    with pytest.raises(ModelUnsupportedError, match="finite"):
        sampler().pick(torch.tensor([0.0, bad, 1.0]))
