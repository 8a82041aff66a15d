"""What a run on Modal costs: by the second, by the alternative, by the account's own rates."""

from __future__ import annotations

import pytest

from corral.errors import SpecError
from corral.launchers.modal.gpus import parse_gpus
from corral.launchers.modal.order import Span, cost_of
from corral.launchers.modal.prices import (
    TABLE,
    Machine,
    check_budget,
    dollars,
    estimate,
    hourly_range,
    with_account_rates,
)

MACHINE = Machine(cpu=4.0, memory_mib=16384)
REST = 4 * 0.0000131 + 16 * 0.00000222


def test_gpus_cores_and_memory_are_billed_by_the_second() -> None:
    [choice] = parse_gpus("A10:2")
    assert TABLE.per_second(choice, MACHINE) == pytest.approx(2 * 0.000306 + REST)


def test_the_estimate_goes_from_the_cheapest_to_the_dearest_alternative() -> None:
    choices = parse_gpus("H100,A10:2")
    found = estimate({"H100": 100.0, "A10:2": 400.0}, choices, MACHINE)
    assert found is not None
    assert found.low == pytest.approx(100 * (0.001097 + REST))
    assert found.high == pytest.approx(400 * (2 * 0.000306 + REST))
    assert str(hourly_range(parse_gpus("H100"), MACHINE)) == "$4.27"


def test_a_gpu_without_a_known_price_has_no_estimate_and_no_budget() -> None:
    choices = parse_gpus("L4,RTX-PRO-6000")
    assert hourly_range(choices, MACHINE) is None
    check_budget(None, choices)
    with pytest.raises(SpecError, match="RTX-PRO-6000"):
        check_budget(1.0, choices)


def test_an_exact_h100_costs_what_an_h100_costs() -> None:
    [exact], [any_of_them] = parse_gpus("H100!"), parse_gpus("H100")
    assert TABLE.per_second(exact, MACHINE) == TABLE.per_second(any_of_them, MACHINE)


def test_the_accounts_rates_replace_the_tables_by_the_second_or_by_the_hour() -> None:
    rates = with_account_rates({"gpu_h100": 0.001, "gpu_t4": 0.5, "cpu": 0.00001})
    assert rates.gpu["H100"] == 0.001
    assert rates.gpu["T4"] == pytest.approx(0.5 / 3600)
    assert rates.gpu["L4"] == TABLE.gpu["L4"]
    assert rates.cpu_core == 0.00001
    assert "account" in rates.source


def test_a_rate_that_means_something_else_is_not_believed() -> None:
    assert with_account_rates({"gpu_h100": 120.0, "sandbox_cpu": 0.00002}) == TABLE


def test_every_container_of_the_job_counts() -> None:
    spans = [Span(1, "L4", 0.0, 10.0), Span(2, "A10:2", 50.0, 5.0)]
    assert cost_of(spans, {"L4": 0.1, "A10:2": 1.0}) == pytest.approx(6.0)
    assert cost_of(spans, {"L4": 0.1}) is None


def test_small_amounts_are_not_rounded_away() -> None:
    assert [dollars(amount) for amount in (0.0, 0.0042, 0.1, 3.456)] == [
        "$0.00",
        "$0.0042",
        "$0.10",
        "$3.46",
    ]
