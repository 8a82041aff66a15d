"""`corral modal clean` chooses what goes, and `corral train --on modal` says the price first."""

from __future__ import annotations

import pytest

pytest.importorskip("modal")

from corral.cli.modal import choose
from corral.cli.train import _show_price, spec_of
from corral.errors import InvalidRequestError, SpecError
from corral.launchers.modal.leftovers import Leftover

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


def test_the_price_is_said_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    _show_price({"backend": "modal", "gpu": "H100,A10:2", "max_cost": 5.0})
    said = capsys.readouterr().err
    assert "H100, else A10:2: $2.52 to $4.27 an hour" in said
    assert "once it has cost $5.00" in said


def test_an_unknown_gpu_is_refused_before_anything_is_uploaded() -> None:
    with pytest.raises(SpecError, match="V100"):
        spec_of({"backend": "modal", "gpu": "V100"})
