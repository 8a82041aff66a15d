"""The command line and environment of a run's processes, spelled once for every launcher.

torchrun starts them where there are several. Knows nothing of where it runs; a launcher says how the
nodes find each other.
"""

from __future__ import annotations

from pathlib import Path

# One machine: port 0 is a free one. Without an address of its own, torchrun looks up this machine's
# name, which may be slow or lead to an interface that is not there.
ALONE = (
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
    *("--local-addr", "127.0.0.1"),
)


# torchrun's own limit on how long its processes may take to end after SIGTERM. Whoever stands over it
# decides that, and may change it after the start; this is not to come first.
_SHUTDOWN_SECONDS = 24 * 3600

# What every training process finds in its environment unless somebody decided otherwise.
ENVIRONMENT = {
    # Lines reach the log as they are printed.
    "PYTHONUNBUFFERED": "1",
    # How long an idle OpenMP thread spins before it sleeps. A training step on two cores (SmolLM2, 8
    # examples), alone / beside one busy process: 4.9 / 16 s by libgomp's default, 4.8 / 9.5 s like
    # this, 5.3 / 8.9 s with OMP_WAIT_POLICY=PASSIVE.
    "GOMP_SPINCOUNT": "2000",
    # glibc gives freed tensors back to the system and faults their pages in again at each use; here it
    # keeps them, in huge pages. A training step on one core (SmolLM2, 8 examples): 8.8 s without,
    # 6.9 s with. Other C libraries ignore it.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:"
    "glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
}


def torchrun_command(
    run_file: Path,
    *,
    name: str,
    nodes: int,
    processes_per_node: int,
    meeting: tuple[str, ...] = ALONE,
    python: str = "python",
) -> list[str]:
    """The command that trains on one of the nodes.

    `name` keeps attempts at a job from meeting each other; `meeting` are the flags by which the
    nodes find each other. A run of one process is started without torchrun: nobody has to be met, and
    torchrun would import torch, for seconds, before the training does.
    """
    training = ("-m", "corral.training", str(run_file))
    if nodes * processes_per_node == 1:
        return [python, *training]
    return [
        *(python, "-m", "torch.distributed.run"),
        *("--nnodes", str(nodes), "--nproc-per-node", str(processes_per_node)),
        # The queue alone tries again.
        *("--max-restarts", "0", *meeting, "--rdzv-id", name),
        *("--shutdown-timeout", str(_SHUTDOWN_SECONDS)),
        *training,
    ]
