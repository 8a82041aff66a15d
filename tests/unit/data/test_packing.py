"""Every example in one pack, no pack too full, all ranks with about equal work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.data.packing import Packing, balanced, first_fit_decreasing
from corral.spec import TrainingSpec

CAPACITY = 100
LENGTHS = st.lists(st.integers(1, CAPACITY), min_size=1, max_size=60)


def tokens(packs: tuple[tuple[int, ...], ...], lengths: list[int]) -> list[int]:
    return [sum(lengths[at] for at in pack) for pack in packs]


def first_fit_the_slow_way(lengths: list[int]) -> list[int]:
    full: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [pack for pack, used in enumerate(full) if used + length <= CAPACITY]
        if fits:
            full[fits[0]] += length
        else:
            full.append(length)
    return sorted(full, reverse=True)


@given(lengths=LENGTHS, multiple=st.integers(1, 6))
def test_every_example_is_in_one_pack_and_no_pack_holds_more_than_it_may(
    lengths: list[int], multiple: int
) -> None:
    for packs in (first_fit_decreasing(lengths, CAPACITY), balanced(lengths, CAPACITY, multiple)):
        assert sorted(at for pack in packs for at in pack) == list(range(len(lengths)))
        assert max(tokens(packs, lengths)) <= CAPACITY
        assert all(packs)


@given(lengths=LENGTHS)
def test_the_packs_are_those_of_first_fit_decreasing(lengths: list[int]) -> None:
    packs = first_fit_decreasing(lengths, CAPACITY)
    assert tokens(packs, lengths) == first_fit_the_slow_way(lengths)


def test_an_example_that_is_longer_than_a_pack_has_one_of_its_own() -> None:
    assert first_fit_decreasing([150, 1, 150], CAPACITY) == ((0,), (2,), (1,))
    assert balanced([150, 1, 150], CAPACITY) == ((0,), (2,), (1,))


@given(
    lengths=st.lists(st.integers(1, 20), min_size=24, max_size=60), ranks=st.sampled_from([2, 4])
)
def test_ranks_get_equally_many_packs_of_about_equally_many_tokens(
    lengths: list[int], ranks: int
) -> None:
    packs = balanced(lengths, 4 * CAPACITY, ranks)
    assert len(packs) % ranks == 0
    counts = tokens(packs, lengths)
    assert max(counts) - min(counts) <= max(lengths)


def test_with_fewer_examples_than_ranks_no_pack_is_empty() -> None:
    assert balanced([5, 7], CAPACITY, 4) == ((1,), (0,))


def test_a_pack_keeps_the_steps_order_and_the_fullest_comes_first() -> None:
    packing = Packing(lengths=[10, 60, 30, 80], capacity=CAPACITY)
    assert packing.packs([2, 0, 3, 1]) == ((0, 3), (2, 1))


def test_a_pass_holds_what_the_batch_would_hold_at_its_longest() -> None:
    spec = TrainingSpec(batch_size=4, max_length=64, gradient_accumulation_steps=1)
    packs = Packing.from_spec(spec, [64] * 16, world_size=1).packs(range(16))
    assert [len(pack) for pack in packs] == [4] * 4


@pytest.mark.parametrize("per_step", [1, 3, 8, 32])
def test_one_two_and_four_ranks_pack_the_same_step_alike(per_step: int) -> None:
    lengths = [(7 * n) % 50 + 1 for n in range(per_step)]
    found = {
        Packing.from_spec(
            TrainingSpec(batch_size=2, max_length=64, gradient_accumulation_steps=16 // ranks),
            lengths,
            ranks,
        ).packs(range(per_step))
        for ranks in (1, 2, 4)
    }
    assert len(found) == 1


def test_without_accumulation_one_rank_makes_as_few_passes_as_fit() -> None:
    spec = TrainingSpec(batch_size=32, max_length=64, gradient_accumulation_steps=1)
    assert len(Packing.from_spec(spec, [10] * 32, world_size=1).packs(range(32))) == 1
