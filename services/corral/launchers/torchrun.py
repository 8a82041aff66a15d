"""torchrun's command line and environment, spelled once for every launcher.

Knows nothing of where it runs; a launcher says how the nodes find each other.
"""

from __future__ import annotations

from pathlib import Path

# One machine: port 0 is a free one. Without an address of its own, torchrun looks up this machine's
# name, which may be slow or lead to an interface that is not there.
ALONE = (
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
    *("--local-addr", "127.0.0.1"),
)


# What every training process finds in its environment unless somebody decided otherwise.
ENVIRONMENT = {
    # Lines reach the log as they are printed.
    "PYTHONUNBUFFERED": "1",
    # How long an idle OpenMP thread spins before it sleeps. A training step on two cores (SmolLM2, 8
    # examples), alone / beside one busy process: 4.9 / 16 s by libgomp's default, 4.8 / 9.5 s like
    # this, 5.3 / 8.9 s with OMP_WAIT_POLICY=PASSIVE.
    "GOMP_SPINCOUNT": "2000",
}


def torchrun_command(
    run_file: Path,
    *,
    name: str,
    nodes: int,
    processes_per_node: int,
    stop_seconds: float,
    meeting: tuple[str, ...] = ALONE,
    python: str = "python",
) -> list[str]:
    """The command that trains on one of the nodes.

    `name` keeps attempts at a job from meeting each other; `meeting` are the flags by which the
    nodes find each other; `stop_seconds` is how long the processes may take to end after SIGTERM.
    """
    return [
        *(python, "-m", "torch.distributed.run"),
        *("--nnodes", str(nodes), "--nproc-per-node", str(processes_per_node)),
        # The queue alone tries again.
        *("--max-restarts", "0", *meeting, "--rdzv-id", name),
        *("--shutdown-timeout", str(max(1, round(stop_seconds)))),
        *("-m", "corral.training", str(run_file)),
    ]
