"""`corral modal clean` chooses what goes, and `corral train --on modal` says the price first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

pytest.importorskip("modal")

from corral.cli.modal import choose
from corral.cli.price import show_price
from corral.cli.train import spec_of
from corral.client.connection import Connection
from corral.errors import InvalidRequestError, SpecError
from corral.launchers.modal.leftovers import Leftover
from corral.v1 import trainer_pb2

OURS = Leftover("corral-aaaaaaaa-job-1", "job-1", True, 2 * 1024**3, 0.0)
RUNNING = Leftover("corral-aaaaaaaa-job-2", "job-2", True, 0, 1.0, call="fc-1")
THEIRS = Leftover("corral-bbbbbbbb-job-3", "job-3", False, 0, 2.0)
ALL = [OURS, RUNNING, THEIRS]


def test_by_default_what_is_ours_and_at_rest_goes() -> None:
    assert choose(ALL, [], running=False, others=False) == [OURS]
    assert choose(ALL, [], running=True, others=True) == ALL


def test_a_named_volume_goes_whoever_left_it() -> None:
    assert choose(ALL, [THEIRS.name], running=False, others=False) == [THEIRS]


def test_a_name_that_is_not_there_and_a_run_at_work_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no volume 'mine'"):
        choose(ALL, ["mine"], running=False, others=False)
    with pytest.raises(InvalidRequestError, match="still works") as caught:
        choose(ALL, [RUNNING.name], running=False, others=False)
    assert "corral jobs cancel job-2" in caught.value.hint


def test_what_a_volume_costs_is_told_by_its_size() -> None:
    assert OURS.cost_a_month == pytest.approx(0.18)


class Planning:
    """A client of a deployment: where its runs run, and what it plans."""

    def __init__(self, launcher: str = "local", **plan: float) -> None:
        self._launcher = launcher
        self._plan = plan
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def server_info(self) -> trainer_pb2.GetServerResponse:
        return trainer_pb2.GetServerResponse(launcher=self._launcher)

    def plan_job(self, dataset_id: str, spec: Mapping[str, Any]) -> trainer_pb2.TrainingPlan:
        self.asked.append((dataset_id, spec))
        return trainer_pb2.TrainingPlan(**self._plan)


def said_of(
    client: Planning, capsys: pytest.CaptureFixture[str], **spec: Any
) -> tuple[str, list[tuple[str, Mapping[str, Any]]]]:
    show_price(cast(Connection, client), "data", spec)
    return capsys.readouterr().err, client.asked


def test_the_price_of_an_hour_and_of_the_whole_run_is_said_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Planning(lowest_cost=0.4, highest_cost=1.25)
    spec = {"backend": "modal", "gpu": "H100,A10:2", "max_cost": 5.0}
    said, asked = said_of(client, capsys, **spec)
    assert "H100, else A10:2: $2.52 to $4.27 an hour" in said
    assert "The whole run: $0.40 to $1.25" in said
    assert "once it has cost $5.00" in said
    assert "less than" not in said
    assert asked == [("data", spec)]


def test_a_budget_below_the_price_of_the_run_is_pointed_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Planning(lowest_cost=0.4, highest_cost=1.25)
    said, _ = said_of(client, capsys, backend="modal", max_cost=0.2)
    assert "less than the plan's lowest price" in said


def test_a_deployment_whose_launcher_is_modal_says_the_price_without_being_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said, _ = said_of(Planning("modal", lowest_cost=1.0, highest_cost=2.0), capsys)
    assert "L4: $1.12 an hour" in said
    assert "The whole run: $1.00 to $2.00" in said


def test_a_gpu_without_a_known_price_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    said, _ = said_of(Planning(), capsys, backend="modal", gpu="RTX-PRO-6000")
    assert "not known here; see modal.com/pricing" in said
    assert "whole run" not in said


def test_where_nobody_bills_nothing_is_said_or_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert said_of(Planning(), capsys) == ("", [])


def test_an_unknown_gpu_is_refused_before_anything_is_uploaded() -> None:
    with pytest.raises(SpecError, match="V100"):
        spec_of({"backend": "modal", "gpu": "V100"})
