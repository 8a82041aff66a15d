"""Many short training runs for the price of one import of torch.

`train_all` starts one process that imports everything and then forks the ranks of each run in turn.
A run is carried out by the same `main` that torchrun calls; only torchrun itself is left out.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.runs import read_events

from corral.run import EXIT_DONE, EXIT_REFUSED, EXIT_STOPPED, RunEvent

_SECONDS = 240


def train_all(run_files: Sequence[tuple[Path, int]]) -> list[list[RunEvent]]:
    """Train each run with so many ranks, and return the events of each. None may crash."""
    asked = json.dumps([[str(path), ranks] for path, ranks in run_files])
    done = subprocess.run(
        [sys.executable, "-m", "tests.forked_training", asked],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]
    return [read_events(path) for path, _ in run_files]


def _train(run_file: Path, ranks: int) -> int:
    """Fork the ranks of one run and wait for them; 1 where one crashed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os._exit(_rank(run_file, rank, ranks, port))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return int(any(code not in (EXIT_DONE, EXIT_REFUSED, EXIT_STOPPED) for code in codes))


def _rank(run_file: Path, rank: int, ranks: int, port: int) -> int:
    from corral.training.__main__ import main

    if ranks > 1:
        os.environ |= dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
        os.environ |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(ranks))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return main(run_file)


if __name__ == "__main__":
    import corral.training.loop  # noqa: F401 - imported once, before the forks

    codes = [_train(Path(path), ranks) for path, ranks in json.loads(sys.argv[1])]
    sys.exit(max(codes))
