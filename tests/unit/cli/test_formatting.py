from __future__ import annotations

import pytest

from corral import formatting


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (4 * 86400 + 3600, "4 d 01 h"),
        (float("inf"), "?"),
        (-1, "?"),
    ],
)
def test_a_duration_reads_in_its_own_units(seconds: float, expected: str) -> None:
    assert formatting.duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (270 * 1024**2, "270 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_a_size_reads_in_binary_units(count: int, expected: str) -> None:
    assert formatting.size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (3 * 86400, "3 d")],
)
def test_an_age_is_one_unit(seconds: float, expected: str) -> None:
    assert formatting.age(seconds) == expected


def test_a_count_agrees_with_its_noun() -> None:
    assert formatting.count(1, "row") == "1 row"
    assert formatting.count(1204, "row") == "1,204 rows"
    assert formatting.count(2, "process", "processes") == "2 processes"


def test_a_sparkline_spans_its_values_and_keeps_the_last() -> None:
    assert formatting.sparkline([0, 7]) == "▁█"
    assert formatting.sparkline([5, 5]) == "▁▁"
    assert formatting.sparkline([9, 1, 2], width=2) == "▁█"
    assert formatting.sparkline([float("nan")]) == ""
