"""The command that trains: torchrun where several processes have to meet, else the process itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.launchers.torchrun import torchrun_command

RUN_FILE = Path("/data/runs/job-1/a1/run.json")
TRAINING = ["-m", "corral.training", str(RUN_FILE)]


def command(nodes: int, processes_per_node: int) -> list[str]:
    return torchrun_command(
        RUN_FILE, name="job-1-a1", nodes=nodes, processes_per_node=processes_per_node
    )


def test_one_process_is_started_without_torchrun() -> None:
    assert command(1, 1) == ["python", *TRAINING]


@pytest.mark.parametrize(("nodes", "processes_per_node"), [(1, 2), (2, 1)])
def test_several_processes_are_started_by_torchrun(nodes: int, processes_per_node: int) -> None:
    built = command(nodes, processes_per_node)
    assert built[:3] == ["python", "-m", "torch.distributed.run"]
    assert built[built.index("--nnodes") + 1] == str(nodes)
    assert built[built.index("--nproc-per-node") + 1] == str(processes_per_node)
    assert built[-3:] == TRAINING
