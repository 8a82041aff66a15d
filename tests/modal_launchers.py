"""Modal launchers against the double: quick, with stand-ins for training or with training itself."""

from __future__ import annotations

import sys
from pathlib import Path

from tests import modal_training
from tests.conformance import stand_in_run
from tests.modal_double.server import ModalDouble

from corral.launchers.modal.client import Connection, Credentials
from corral.launchers.modal.following import Pace
from corral.launchers.modal.launcher import ModalLauncher
from corral.launchers.modal.prices import Machine
from corral.launchers.modal.spawning import CommandBuilder, ModalOptions
from corral.run import TrainingRun

DEPLOYMENT = "0a1b2c3d"
QUICK = Pace(look_seconds=0.05, retry_seconds=0.02, patience_seconds=3.0)
MACHINE = Machine(cpu=4.0, memory_mib=16384)


def stand_in(run_file: Path, run: TrainingRun) -> list[str]:
    """The stand-in reads its orders at home: the double's containers are on this machine."""
    return [sys.executable, stand_in_run.__file__, str(run_file)]


def quick_training(seconds_a_step: float) -> CommandBuilder:
    """Containers that play training, see tests/modal_training.py."""
    script = str(Path(modal_training.__file__))
    return lambda run_file, run: [sys.executable, script, str(seconds_a_step)]


def modal_launcher(
    double: ModalDouble,
    data: Path,
    command: CommandBuilder | None = stand_in,
    pace: Pace = QUICK,
) -> ModalLauncher:
    """A launcher of a deployment whose volume is `data`; without a command, containers train."""
    options = ModalOptions(
        data=data, deployment=DEPLOYMENT, machine=MACHINE, stop_seconds=20.0, pace=pace
    )
    connection = Connection(Credentials(double.token_id, double.token_secret))
    return ModalLauncher(connection, options, command)


def write_rows(data: Path, dataset_id: str = "d" * 64) -> None:
    """Rows where an upload would have put them."""
    folder = data / "datasets" / dataset_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows").write_text('{"instruction": "Say yes.", "output": "Yes."}\n')
