"""Bars of the token histogram."""

from __future__ import annotations

from corral.gateway.console.dataset import bins_of
from corral.v1 import trainer_pb2 as pb


def lengths(*pairs: tuple[int, int]) -> list[pb.TokenLengths]:
    return [pb.TokenLengths(length=length, rows=rows) for length, rows in pairs]


def test_every_row_is_in_a_bar_and_gaps_stay_empty() -> None:
    bins = bins_of(lengths((10, 1), (11, 2), (500, 3)), max_length=1024)
    assert sum(rows for _, rows, _ in bins) == 6
    assert bins[0] == ("10–30", 3, False)
    assert bins[1][1] == 0
    assert len(bins) <= 24


def test_bars_beyond_the_longest_are_marked() -> None:
    bins = bins_of(lengths((3, 1), (4, 1), (5, 1)), max_length=4)
    assert bins == [("3", 1, False), ("4", 1, False), ("5", 1, True)]


def test_nothing_has_no_bars() -> None:
    assert bins_of([], max_length=10) == []
