"""`torchrun -m corral.training run.json`: one rank of a run.

Exit codes: 0 done, 75 stopped on request with a checkpoint, 2 refused (the user can mend it), 1
crashed. The last line of events.jsonl says the same, since torchrun swallows exit codes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from corral.errors import CorralError
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

    with joined_ranks() as ranks:
        try:
            finished = train(run, volume, ranks, stop)
            ended = Ended(time=now(), outcome="done" if finished else "stopped")
        except CorralError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 the run's log
            ended = Ended(time=now(), outcome="failed", code=error.code, message=str(error))
        if ranks.is_main:
            EventWriter(volume.run(run.job_id, run.attempt).events).write(ended)
    return {"done": EXIT_DONE, "stopped": EXIT_STOPPED, "failed": EXIT_REFUSED}[ended.outcome]


if __name__ == "__main__":
    # A rank that was refused must not wait for its peers in torch's own clean-up at exit.
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
