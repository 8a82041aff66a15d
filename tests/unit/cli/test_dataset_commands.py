"""Uploaded data sets: listed, shown and deleted, by their whole id or its first digits."""

from __future__ import annotations

import json

import pytest
from tests.unit.cli.builders import Corral
from tests.unit.cli.fake_server import FakeTrainer

from corral.v1 import trainer_pb2

FIRST, SECOND = "aaaaaaaa1" + "0" * 55, "aaaaaaaa2" + "0" * 55


@pytest.fixture(autouse=True)
def datasets(trainer: FakeTrainer) -> None:
    problem = trainer_pb2.RowProblem(
        row=1,
        line=2,
        field="output",
        message="is empty.",
        severity=trainer_pb2.RowProblem.SEVERITY_ERROR,
    )
    report = trainer_pb2.DatasetReport(rows=3, usable_rows=2, problems=[problem], problem_count=1)
    for whole, name in ((FIRST, "first.jsonl"), (SECOND, "second.jsonl")):
        trainer.datasets[whole] = trainer_pb2.Dataset(
            id=whole, filename=name, size_bytes=2048, format="alpaca", report=report
        )


def test_data_sets_are_listed_in_a_table_or_as_json(corral: Corral) -> None:
    _, table, _ = corral("data", "list")
    _, out, _ = corral("data", "list", "--json")

    rows = [line.split() for line in table.splitlines()[1:]]
    assert [row[:6] for row in rows] == [
        ["aaaaaaaa1000", "first.jsonl", "3", "alpaca", "2.0", "KiB"],
        ["aaaaaaaa2000", "second.jsonl", "3", "alpaca", "2.0", "KiB"],
    ]
    assert [dataset["id"] for dataset in json.loads(out)] == [FIRST, SECOND]


def test_no_data_sets_is_an_empty_result(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.datasets.clear()

    code, out, err = corral("data", "list")

    assert (code, out) == (0, "")
    assert "corral train FILE" in err


@pytest.mark.parametrize("given", [SECOND, SECOND[:12], SECOND[:9]])
def test_a_data_set_is_shown_with_its_report(corral: Corral, given: str) -> None:
    _, shown, _ = corral("data", "show", given)
    _, out, _ = corral("data", "show", given, "--json")

    assert SECOND in shown
    assert "3, 2 usable" in shown
    assert "error: line 2 (row 1), output: is empty." in shown
    assert json.loads(out)["report"]["problems"][0]["severity"] == "ERROR"


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("aaaaaaaa", 2, "2 data sets begin with aaaaaaaa"),
        ("aaaaaaa", 2, "too short"),
        ("bbbbbbbb", 3, "There is no data set bbbbbbbb."),
        ("b" * 64, 3, "There is no data set bbb"),
    ],
)
def test_an_id_that_names_none_or_several_is_refused(
    corral: Corral, given: str, code: int, said: str
) -> None:
    found, out, err = corral("data", "show", given)

    assert (found, out) == (code, "")
    assert said in err


def test_deleting_a_data_set_asks_first(corral: Corral, trainer: FakeTrainer) -> None:
    code, _, err = corral("data", "delete", FIRST[:12])
    assert code == 2
    assert "--yes" in err
    assert FIRST in trainer.datasets

    assert corral("data", "delete", FIRST[:12], "--yes")[:2] == (0, f"{FIRST}\n")
    assert list(trainer.datasets) == [SECOND]
