"""A rank that notices when another one of its machine has died.

gloo's connections break when a peer is gone. NCCL's do not: the others wait in a kernel on the GPU,
where not even SIGTERM reaches them, until a timeout of ten minutes or torchrun's patience is over. So
a thread looks at the other processes, and ends this one when it is stuck behind a dead peer.

Other machines are not looked at: there the launcher ends what is left of a run. Knows nothing of
what the ranks do.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from corral.training.parallel import Ranks

_LOOK_SECONDS = 0.5
# Long enough for the error of a broken connection, which says more, and for ranks to end by
# themselves one after the other.
_GRACE_SECONDS = 5.0


class PeerWatch:
    """Looks at the other ranks of this machine until it rests. `leave` ends this process."""

    def __init__(
        self,
        peers: dict[int, int],
        leave: Callable[[], None],
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        """`peers` are process ids by rank."""
        self._peers = peers
        self._leave = leave
        self._grace = grace_seconds
        self._resting = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="corral-peers", daemon=True)

    def start(self) -> PeerWatch:
        """Begin to look, if there is anybody."""
        if self._peers:
            self._thread.start()
        return self

    def rest(self) -> None:
        """From now on the others may end."""
        self._resting.set()

    def join(self) -> None:
        """Wait until it looks no more."""
        self._thread.join()

    def _watch(self) -> None:
        while not self._resting.wait(_LOOK_SECONDS):
            gone = [rank for rank, pid in self._peers.items() if not _is_alive(pid)]
            if gone and not self._resting.wait(self._grace):
                print(f"error: rank {gone[0]} has died", file=sys.stderr, flush=True)  # noqa: T201
                self._leave()
                return


def local_peers(ranks: Ranks) -> dict[int, int]:
    """The process ids of the other ranks on this machine, by rank. A collective."""
    pids = ranks.total(
        *(float(os.getpid() * (rank == ranks.rank)) for rank in range(ranks.world_size))
    )
    # torchrun gives the ranks of a machine consecutive numbers, and says how many they are.
    count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    first = ranks.rank - int(os.environ.get("LOCAL_RANK", "0"))
    return {rank: int(pids[rank]) for rank in range(first, first + count) if rank != ranks.rank}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
