"""Which examples make up which step."""

from dataclasses import replace
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from corral.data.packing import Packing
from corral.training.order import Cursor, DataOrder, StepPlan

LENGTHS = [17 * n % 90 + 10 for n in range(40)]


def order(examples: int = 10, epochs: int = 2, batch: int = 2, effective: int = 4) -> DataOrder:
    return DataOrder(examples, epochs, batch, effective, seed=7)


def seen(data: DataOrder, cursor: Cursor = Cursor()) -> list[int]:  # noqa: B008 frozen
    return [i for plan in data.steps(cursor) for i in in_step(plan)]


def in_step(plan: StepPlan) -> list[int]:
    return [i for batch in plan.micro_batches for i in batch]


def test_every_epoch_sees_every_example_once_in_another_order() -> None:
    indices = seen(order())
    first, second = indices[:10], indices[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert seen(order()) == seen(order())
    assert seen(order()) != seen(replace(order(), seed=8))


@given(
    examples=st.integers(1, 40),
    epochs=st.integers(1, 3),
    batch=st.integers(1, 5),
    accumulation=st.integers(1, 4),
    stop=st.integers(0, 60),
    world=st.sampled_from([1, 2, 4]),
    resumed_world=st.sampled_from([1, 2, 4]),
    packed=st.booleans(),
)
def test_a_run_resumed_at_another_world_size_misses_and_repeats_nothing(
    examples: int,
    epochs: int,
    batch: int,
    accumulation: int,
    stop: int,
    world: int,
    resumed_world: int,
    packed: bool,
) -> None:
    def at(world: int) -> DataOrder:
        packing = Packing(LENGTHS[:examples], 100 * batch, world) if packed else None
        return DataOrder(examples, epochs, batch, batch * accumulation * world, 1, packing)

    cursor = Cursor()
    done: list[int] = []
    for plan in islice(at(world).steps(Cursor()), stop):
        done += in_step(plan)
        cursor = plan.after
    done += [i for plan in at(resumed_world).steps(cursor) for i in in_step(plan)]
    if not packed:
        assert done == seen(at(1))
    for epoch in range(epochs):
        assert sorted(done[epoch * examples : (epoch + 1) * examples]) == list(range(examples))


@given(examples=st.integers(1, 40), effective=st.integers(1, 50), multiple=st.integers(1, 4))
def test_packing_leaves_each_step_its_examples(
    examples: int, effective: int, multiple: int
) -> None:
    plain = DataOrder(examples, 2, 2, effective, seed=1)
    packed = replace(plain, packing=Packing(LENGTHS[:examples], 200, multiple))
    for one, other in zip(plain.steps(Cursor()), packed.steps(Cursor()), strict=True):
        assert sorted(in_step(one)) == sorted(in_step(other))
        assert one.after == other.after


@given(examples=st.integers(1, 40), epochs=st.integers(1, 3), effective=st.integers(1, 50))
def test_the_number_of_steps_left_is_the_number_of_steps_that_come(
    examples: int, epochs: int, effective: int
) -> None:
    data = DataOrder(examples, epochs, 2, effective, seed=1)
    cursor = Cursor()
    plans = list(data.steps(cursor))
    for left, plan in zip(range(len(plans), 0, -1), plans, strict=True):
        assert data.steps_left(cursor) == left
        cursor = plan.after
    assert data.steps_left(cursor) == 0


@given(examples=st.integers(1, 40), world_size=st.integers(1, 5))
def test_ranks_share_a_step_without_overlap_and_make_equally_many_passes(
    examples: int, world_size: int
) -> None:
    for plan in DataOrder(examples, 1, 2, 12, seed=1).steps(Cursor()):
        shares = [plan.of_rank(rank, world_size) for rank in range(world_size)]
        assert len({len(share) for share in shares}) == 1
        taken = sorted((number, batch) for share in shares for number, batch in share if batch)
        assert tuple(batch for _, batch in taken) == plan.micro_batches
