from __future__ import annotations

from typing import Any

import pytest

from corral.cli.plan import planned_on
from corral.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("fields", "gpus", "device", "expected"),
    [
        ({}, None, "", {}),
        ({"gpu": "A100-80GB"}, None, "A100-80GB", {}),
        ({"gpu": "A100-80GB:2"}, None, "A100-80GB", {"processes": 2}),
        ({"gpu": "cpu", "epochs": 2}, 4, "cpu", {"epochs": 2, "processes": 4}),
        ({"gpu": "T4:2", "processes": 2}, 2, "T4", {"processes": 2}),
        ({"gpu": "L4,T4:2", "backend": "modal"}, None, "", {"gpu": "L4,T4:2", "backend": "modal"}),
    ],
)
def test_a_gpu_is_a_device_to_plan_for_but_on_modal(
    fields: dict[str, Any], gpus: int | None, device: str, expected: dict[str, Any]
) -> None:
    asked = planned_on(fields, gpus)

    assert (asked.device, asked.fields) == (device, expected)


@pytest.mark.parametrize(
    ("fields", "gpus"),
    [({"gpu": "T4:many"}, None), ({"gpu": "T4:0"}, None), ({"gpu": "T4:2"}, 3)],
)
def test_numbers_of_gpus_that_are_none_or_do_not_agree_are_refused(
    fields: dict[str, Any], gpus: int | None
) -> None:
    with pytest.raises(InvalidRequestError):
        planned_on(fields, gpus)
