"""Which examples make up which step."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from corral.training.order import Cursor, DataOrder


def order(examples: int = 10, epochs: int = 2, batch: int = 2, effective: int = 4) -> DataOrder:
    return DataOrder(examples, epochs, batch, effective, seed=7)


def seen(data: DataOrder, cursor: Cursor = Cursor()) -> list[int]:  # noqa: B008 frozen
    return [i for plan in data.steps(cursor) for batch in plan.micro_batches for i in batch]


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
    resumed_world=st.sampled_from([1, 2, 4]),
)
def test_a_run_resumed_at_another_world_size_misses_and_repeats_nothing(
    examples: int, epochs: int, batch: int, accumulation: int, stop: int, resumed_world: int
) -> None:
    before = DataOrder(examples, epochs, batch, batch * accumulation * 2, seed=1)
    cursor, done = Cursor(), []
    for number, plan in enumerate(before.steps(Cursor())):
        if number == stop:
            break
        done += [i for micro in plan.micro_batches for i in micro]
        cursor = plan.after
    after = replace(before, effective_batch_size=batch * accumulation * resumed_world)
    assert done + seen(after, cursor) == seen(before)


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
