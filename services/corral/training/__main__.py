"""`python -m corral.training run.json`: one rank of a run, started by torchrun where there are several.

Exit codes: 0 done, 75 stopped on request with a checkpoint, 2 refused (the user can mend it), 1
crashed. The last line of events.jsonl says the same, since torchrun swallows exit codes.

However a rank ends, it ends at once: without waiting for its peers, or for a checkpoint that its own
thread still writes. torchrun sees it and ends the others.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from corral.errors import CorralError, OutOfMemoryError
from corral.run import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_STOPPED,
    Ended,
    EventWriter,
    TrainingRun,
    now,
)
from corral.volume import Volume

_EXIT_CRASHED = 1


class StopFlag:
    """Set by SIGTERM: the run saves after the step that is under way."""

    def __init__(self) -> None:
        self._is_set = False
        signal.signal(signal.SIGTERM, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._is_set = True

    def __call__(self) -> bool:
        return self._is_set


def main(run_file: Path) -> int:
    """Carry out one run and write how it ended."""
    # Before torch is imported, which takes seconds: a stop that comes early must not be lost.
    stop = StopFlag()
    run = TrainingRun.read(run_file)
    volume = Volume.of_run_file(run_file)
    from corral.training.loop import run as train
    from corral.training.parallel import joined_ranks
    from corral.training.peers import PeerWatch, local_peers

    with joined_ranks() as ranks:
        watch = PeerWatch(local_peers(ranks), lambda: _leave(_EXIT_CRASHED)).start()
        try:
            end = train(run, volume, ranks, stop)
            outcome = "done" if end.finished else "stopped"
            ended = Ended(time=now(), outcome=outcome, message=end.reason)
            watch.rest()
        except CorralError as error:
            watch.rest()
            print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 the run's log
            ended = Ended(time=now(), outcome="failed", code=error.code, message=str(error))
            # Memory runs out on one rank alone, and the main rank will never know why it died.
            if ranks.is_main or isinstance(error, OutOfMemoryError):
                _write(ended, run, volume)
            _leave(EXIT_REFUSED)
        if ranks.is_main:
            _write(ended, run, volume)
    return EXIT_DONE if ended.outcome == "done" else EXIT_STOPPED


def _write(ended: Ended, run: TrainingRun, volume: Volume) -> None:
    EventWriter(volume.run(run.job_id, run.attempt).events).write(ended)


def _leave(code: int) -> NoReturn:
    """End this process without any clean-up, in which torch would wait for other ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]))
    except BaseException:  # noqa: BLE001 - whatever it was, this rank ends
        traceback.print_exc()
        code = _EXIT_CRASHED
    _leave(code)
