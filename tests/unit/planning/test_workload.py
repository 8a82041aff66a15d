"""What a data set makes of a spec, counted from how many rows there are of each length."""

from __future__ import annotations

import pytest

from corral.planning.workload import Workload, held_out_rows, workload
from corral.spec import TrainingSpec


def _work(lengths: dict[int, int], **fields: object) -> Workload:
    spec = TrainingSpec.model_validate(
        {"batch_size": 2, "gradient_accumulation_steps": 2, **fields}
    )
    return workload(spec, lengths, label_tokens=sum(n * c for n, c in lengths.items()) // 2)


def test_steps_and_tokens_are_those_of_all_epochs() -> None:
    work = _work({10: 6, 20: 4}, epochs=3)
    assert (work.rows, work.steps, work.tokens) == (10, 9, 3 * 140)
    assert work.label_share == pytest.approx(0.5)
    assert (work.mean_length, work.longest) == (14.0, 20)


def test_max_steps_ends_the_count() -> None:
    work = _work({10: 12}, epochs=3, max_steps=3)
    assert (work.steps, work.tokens) == (3, 120)


def test_longer_rows_are_cut() -> None:
    work = _work({10: 1, 500: 1}, epochs=1, max_length=100)
    assert (work.tokens, work.longest) == (110, 100)


def test_held_out_rows_are_not_trained_on() -> None:
    work = _work({10: 10}, epochs=1, eval_split=0.2)
    assert (work.held_out, work.tokens) == (2, 80)
    assert held_out_rows(10, 0.001) == 1
    assert held_out_rows(1, 0.9) == 0


def test_equal_rows_waste_nothing_padded() -> None:
    assert _work({50: 100}).padding_waste == 0


def test_uneven_rows_waste_more_padded_than_packed() -> None:
    work = _work({20: 100, 200: 100}, max_length=256)
    # Every other pair has one row padded by 180; a pair holds 310 tokens on average.
    assert work.padding_waste == pytest.approx(90 / 310, abs=0.03)
    assert work.packing_waste < work.padding_waste


def test_no_rows_are_no_work() -> None:
    assert _work({}).steps == 0
