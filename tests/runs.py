"""Builders for tests that train: a volume with rows, a run.json, the processes that a launcher starts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from corral.launchers.torchrun import torchrun_command
from corral.run import LineTail, RunEvent, StepDone, TrainingRun, parse_events
from corral.spec import TrainingSpec
from corral.volume import Volume

ROWS = [
    {"instruction": f"Say the word number {n}.", "output": f"word {n} " * (1 + n % 4)}
    for n in range(12)
]


def write_rows(volume: Volume, rows: list[dict[str, Any]] | None = None) -> str:
    """Put rows where an upload would; returns the data set's id."""
    data = "\n".join(json.dumps(row) for row in rows or ROWS).encode()
    dataset_id = hashlib.sha256(data).hexdigest()
    volume.dataset(dataset_id).mkdir(parents=True, exist_ok=True)
    volume.dataset_rows(dataset_id).write_bytes(data)
    return dataset_id


def write_run(
    volume: Volume,
    model: Path,
    *,
    job_id: str = "job-1",
    attempt: int = 1,
    resume_from: str | None = None,
    rows: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> Path:
    """Write a run.json for a quick exact run (fp32) and return its path."""
    fields = {"precision": "fp32", "epochs": 2, "batch_size": 2, "max_length": 128} | spec
    fields = {"gradient_accumulation_steps": 2, "learning_rate": 1e-3} | fields
    run = TrainingRun(
        job_id=job_id,
        attempt=attempt,
        dataset_id=write_rows(volume, rows),
        spec=TrainingSpec(model=str(model), **fields),
        resume_from=resume_from,
    )
    run_file = volume.run(job_id, attempt).run_file
    run.write(run_file)
    return run_file


def start_training(run_file: Path, processes: int) -> subprocess.Popen[bytes]:
    """Start a run's processes, their output in the run's log."""
    log = (run_file.parent / "log.txt").open("ab")
    return subprocess.Popen(
        torchrun_command(
            run_file,
            name=run_file.parent.name,
            nodes=1,
            processes_per_node=processes,
            python=sys.executable,
        ),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def train(run_file: Path, processes: int = 1) -> list[RunEvent]:
    """Train to the end and return the run's events."""
    code = start_training(run_file, processes).wait(timeout=120)
    events = read_events(run_file)
    assert events, f"exit code {code}\n{(run_file.parent / 'log.txt').read_text()[-3000:]}"
    return events


def read_events(run_file: Path) -> list[RunEvent]:
    """The events written so far."""
    return list(parse_events(LineTail(run_file.parent / "events.jsonl").new_lines(100_000)))


def losses(events: list[RunEvent]) -> list[float]:
    """The loss of each step."""
    return [event.loss for event in events if isinstance(event, StepDone)]
