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
from corral.generation.sampler import Drawn, Row, distribution, sample

pytestmark = pytest.mark.torch

# Of float32, as models give them.
LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20, unique=True)
OPTIONS = st.builds(
    SamplingOptions,
    temperature=st.floats(0.05, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 25),
    min_p=st.floats(0, 1),
)


def plain_distribution(logits: Sequence[float], options: SamplingOptions) -> dict[int, float]:
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    order = order[: options.top_k or None]
    weights = [math.exp((logits[t] - logits[order[0]]) / options.temperature) for t in order]
    total = sum(weights)
    likeliest = weights[0] / total
    kept: dict[int, float] = {}
    mass = 0.0
    for token, weight in zip(order, weights, strict=True):
        if options.top_p < 1 and mass >= options.top_p:
            break
        # Whether rounding puts the last token in or out is nobody's promise.
        assume(abs(mass - options.top_p) > 1e-9)
        if weight / total >= options.min_p * likeliest:
            kept[token] = weight / total
        assume(abs(weight / total - options.min_p * likeliest) > 1e-9 or weight == weights[0])
        mass += weight / total
    return {token: share / sum(kept.values()) for token, share in kept.items()}


@given(LOGITS, OPTIONS)
def test_the_distribution_is_the_plain_one(logits: list[float], options: SamplingOptions) -> None:
    tokens, probabilities = distribution(torch.tensor([logits]), [options])
    pairs = zip(tokens[0].tolist(), probabilities[0].tolist(), strict=True)
    found = {token: share for token, share in pairs if share > 0}
    assert found == pytest.approx(plain_distribution(logits, options))


SEEN = st.lists(st.integers(0, 19), max_size=30)


def plain_penalties(
    logits: list[float], prompt: list[int], answer: list[int], options: SamplingOptions
) -> list[float]:
    result = []
    for token, logit in enumerate(logits):
        changed = logit
        if token in prompt or token in answer:
            penalty = options.repetition_penalty
            changed = changed / penalty if changed >= 0 else changed * penalty
        if token in answer:
            changed -= options.presence_penalty + options.frequency_penalty * answer.count(token)
        result.append(changed + options.logit_bias.get(token, 0.0))
    return result


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=20, max_size=20, unique=True),
    SEEN,
    SEEN,
    st.builds(
        SamplingOptions,
        temperature=st.just(0),
        repetition_penalty=st.floats(0.5, 3),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        logit_bias=st.dictionaries(st.integers(0, 25), st.floats(-100, 100), max_size=5),
    ),
)
def test_penalties_and_biases_are_the_plain_ones(
    logits: list[float], prompt: list[int], answer: list[int], options: SamplingOptions
) -> None:
    expected = plain_penalties(logits, prompt, answer, options)
    first, second = sorted(expected, reverse=True)[:2]
    assume(first - second > 1e-3)
    row = Row(options, prompt)
    row.answer.update(answer)
    assert pick(logits, row) == expected.index(first)


def pick(logits: Any, row: Row) -> int:
    """The next token of a row that is alone."""
    (drawn,) = sample(torch.as_tensor(logits)[None], [row])
    assert isinstance(drawn, Drawn)
    return drawn.token


def row(prompt_ids: Sequence[int] = (), **options: Any) -> Row:
    return Row(SamplingOptions(**options), prompt_ids)


@given(LOGITS, st.sampled_from([{"temperature": 0}, {"temperature": 1e-300}, {"top_k": 1}]))
def test_greedy_takes_the_likeliest(logits: list[float], options: dict[str, Any]) -> None:
    assert pick(logits, row(**options)) == logits.index(max(logits))


def test_greedy_with_a_penalty_never_repeats_itself_on_close_logits() -> None:
    chosen = row(prompt_ids=[3], temperature=0, repetition_penalty=1.5)
    assert [pick([1.0, 1.1, 1.2, 1.3], chosen) for _ in range(3)] == [2, 1, 0]


ROWS = st.lists(
    st.builds(
        SamplingOptions,
        temperature=st.sampled_from([0.0, 0.5, 1.3]),
        top_p=st.sampled_from([0.3, 0.9, 1.0]),
        top_k=st.sampled_from([0, 1, 3, 50]),
        min_p=st.sampled_from([0.0, 0.1]),
        frequency_penalty=st.sampled_from([0.0, 0.7]),
        seed=st.integers(0, 3),
    ),
    min_size=2,
    max_size=6,
)


@given(ROWS, st.integers(0, 1000))
def test_a_row_draws_among_others_what_it_draws_alone(
    options: list[SamplingOptions], seed: int
) -> None:
    steps = torch.randn(5, len(options), 60, generator=torch.Generator().manual_seed(seed))
    # Ties, as bfloat16 heads give them.
    steps = steps.mul(4).round().div(4)
    together = [Row(one, [1, 2]) for one in options]
    alone = [Row(one, [1, 2]) for one in options]
    for logits in steps:
        drawn = [one.token for one in sample(logits, together) if isinstance(one, Drawn)]
        assert drawn == [pick(own, one) for own, one in zip(logits, alone, strict=True)]


def test_without_a_seed_two_answers_differ() -> None:
    logits = torch.zeros(1000)
    draws = [[pick(logits, one) for _ in range(20)] for one in (row(top_k=0), row(top_k=0))]
    assert draws[0] != draws[1]


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    drawing = row(seed=5, temperature=1, top_p=1)
    draws = [pick(logits, drawing) for _ in range(4000)]
    # Four standard deviations of the commonest are 0.032.
    assert [draws.count(token) / 4000 for token in range(3)] == pytest.approx(
        [0.5, 0.3, 0.2], abs=0.035
    )


def test_likelihoods_are_those_before_temperature_and_penalties() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.1]])
    asked = row(temperature=0, logprobs=2, logit_bias={2: 100})
    (drawn,) = sample(logits, [asked])
    assert isinstance(drawn, Drawn)
    assert drawn.likelihood is not None
    expected = torch.log_softmax(logits[0], dim=-1).tolist()
    assert drawn.token == drawn.likelihood.token == 2
    assert drawn.likelihood.logprob == pytest.approx(expected[2])
    assert [token for token, _ in drawn.likelihood.top] == [0, 1]
    assert [value for _, value in drawn.likelihood.top] == pytest.approx(expected[:2])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_output_that_is_no_number_is_that_rows_error_alone(bad: float) -> None:
    logits = torch.tensor([[0.0, bad, 1.0], [0.0, 2.0, 1.0]])
    wrong, right = sample(logits, [row(), row(temperature=0)])
    assert isinstance(wrong, ModelUnsupportedError)
    assert "finite" in wrong.message
    assert right == Drawn(1)
