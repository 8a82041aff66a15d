"""A process that stands in for training in a container: real events, real checkpoints, no torch.

    python modal_training.py SECONDS_A_STEP RUN_FILE

Goes on from the checkpoint that run.json names, up to max_steps; a checkpoint every checkpoint_every
steps. SIGTERM: a checkpoint of the step that is done, and exit code 75.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.worker_builders import write_checkpoint

from corral.run import (
    EXIT_DONE,
    EXIT_STOPPED,
    CheckpointWritten,
    Ended,
    EventWriter,
    StepDone,
    TrainingRun,
    now,
)
from corral.volume import RunFolder, Volume


def main() -> int:
    seconds, run_file = float(sys.argv[1]), Path(sys.argv[2])
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    run = TrainingRun.read(run_file)
    training = _Training(run, run_file)
    last, total = training.first, run.spec.max_steps or 4
    for step in range(training.first + 1, total + 1):
        time.sleep(seconds)
        training.step(step, total)
        last = step
        if asked or step % run.spec.checkpoint_every == 0 or step == total:
            training.save(step, total)
        if asked:
            break
    done = last == total
    training.events.write(Ended(time=now(), outcome="done" if done else "stopped"))
    return EXIT_DONE if done else EXIT_STOPPED


class _Training:
    def __init__(self, run: TrainingRun, run_file: Path) -> None:
        self._run = run
        self._volume = Volume.of_run_file(run_file)
        self.events = EventWriter(RunFolder(run_file.parent).events)
        self.first = 0
        if run.resume_from:
            folder = self._volume.checkpoints(run.job_id) / run.resume_from
            assert (folder / "model.safetensors").is_file()
            self.first = int(run.resume_from.split("-")[1])
        assert self._volume.dataset_rows(run.dataset_id).is_file()
        sys.stdout.write(f"{run.spec.processes} processes, after step {self.first}\n")
        sys.stdout.flush()

    def step(self, step: int, total: int) -> None:
        self.events.write(
            StepDone(
                time=now(),
                step=step,
                total_steps=total,
                epoch=step / total,
                loss=4.0 - step / 100,
                learning_rate=1e-4,
                gradient_norm=1.0,
                tokens_per_second=100.0,
                time_left=1.0,
            )
        )

    def save(self, step: int, total: int) -> None:
        folder = write_checkpoint(self._volume, self._run, step, total_steps=total)
        self.events.write(CheckpointWritten(time=now(), step=step, folder=folder.name))


if __name__ == "__main__":
    sys.exit(main())
