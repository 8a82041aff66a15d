"""What a training spec allows where fields meet."""

from __future__ import annotations

import pytest

from corral.errors import SpecError
from corral.spec import parse_spec


@pytest.mark.parametrize(("processes", "nodes"), [(1, 2), (3, 2), (8, 3)])
def test_processes_are_spread_over_nodes_evenly(processes: int, nodes: int) -> None:
    with pytest.raises(SpecError, match=f"{processes} processes .* {nodes} nodes"):
        parse_spec({"processes": processes, "nodes": nodes})


def test_nodes_do_not_change_what_a_step_is() -> None:
    one = parse_spec({"processes": 8, "batch_size": 2, "gradient_accumulation_steps": 3})
    four = parse_spec({**one.model_dump(), "nodes": 4})
    assert one.effective_batch_size == four.effective_batch_size == 48
    assert (one.processes_per_node, four.processes_per_node) == (8, 2)


@pytest.mark.parametrize("suffix", ["Ranch", "-a", "a_b", "a" * 41])
def test_a_suffix_that_can_not_be_in_a_name_is_told_what_can(suffix: str) -> None:
    with pytest.raises(SpecError, match=r"suffix: .* must be 1 to 40 of a-z, 0-9 and -") as caught:
        parse_spec({"suffix": suffix})
    assert "^" not in caught.value.message
