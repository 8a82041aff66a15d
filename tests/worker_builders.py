"""A launcher that plays scripts instead of training, and a job's checkpoints written for real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import FileEntry, Manifest, Metrics
from corral.launchers.base import JobIsOver, RunStatus
from corral.run import (
    CheckpointWritten,
    Ended,
    EvaluationDone,
    EventWriter,
    Preparing,
    StepDone,
    TrainingRun,
    now,
)
from corral.volume import RunFolder, Volume

TOTAL_STEPS = 4


@dataclass
class PlayedRun:
    """What a script may do in place of a training process."""

    run: TrainingRun
    folder: RunFolder
    volume: Volume
    stop_asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._events = EventWriter(self.folder.events)

    def preparing(self, rows: int, total_rows: int, time_left: float) -> None:
        self._events.write(
            Preparing(time=now(), rows=rows, total_rows=total_rows, time_left=time_left)
        )

    def step(self, step: int) -> None:
        self._events.write(
            StepDone(
                time=now(),
                step=step,
                total_steps=TOTAL_STEPS,
                epoch=step / TOTAL_STEPS,
                loss=4.0 - step / 2,
                learning_rate=1e-4,
                gradient_norm=1.0,
                tokens_per_second=100.0,
                time_left=1.0,
            )
        )

    def checkpoint(self, step: int, seconds: float = 0.0, eval_loss: float | None = None) -> Path:
        """Write one, and say that this took so many seconds."""
        path = write_checkpoint(self.volume, self.run, step, eval_loss)
        self.tell_checkpoint(step, path.name, seconds)
        return path

    def tell_checkpoint(self, step: int, folder: str, seconds: float = 0.0) -> None:
        self._events.write(CheckpointWritten(time=now(), step=step, folder=folder, seconds=seconds))

    def evaluation(self, step: int, **figures: Any) -> None:
        self._events.write(EvaluationDone(time=now(), step=step, evaluation_seconds=0.5, **figures))

    def print(self, text: str) -> None:
        with self.folder.log.open("a", encoding="utf-8") as log:
            log.write(text)

    def end(self, outcome: str = "done", code: str = "", message: str = "") -> None:
        ended = {"time": now(), "outcome": outcome, "code": code, "message": message}
        self._events.write(Ended.model_validate(ended))


Script = Callable[[PlayedRun], Awaitable[RunStatus | None]]


async def succeeds(run: PlayedRun) -> None:
    """Four steps, a checkpoint after the second and the last."""
    first = int(run.run.resume_from.split("-")[1]) if run.run.resume_from else 0
    for step in range(first + 1, TOTAL_STEPS + 1):
        run.step(step)
        if step % 2 == 0:
            run.checkpoint(step)
    run.end()


async def runs_until_stopped(run: PlayedRun) -> None:
    """One step, and a checkpoint once it is asked to stop."""
    run.step(1)
    await run.stop_asked.wait()
    run.checkpoint(1)
    run.end("stopped")


def crashes(exit_code: int | None = None, signal: str | None = None) -> Script:
    """One step and a line, then an end without a word."""

    async def script(run: PlayedRun) -> RunStatus:
        run.step(1)
        run.print("about to crash\n")
        return RunStatus(is_running=False, exit_code=exit_code, signal=signal)

    return script


class ScriptedLauncher:
    """The Launcher protocol; the n-th run plays the n-th script, the last one for ever after."""

    def __init__(self, volume: Volume, *scripts: Script) -> None:
        self._volume = volume
        self._scripts = list(scripts)
        self._tasks: dict[str, asyncio.Task[RunStatus | None]] = {}
        self.runs: list[PlayedRun] = []
        self.stops: list[tuple[str, float]] = []

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        played = PlayedRun(run, RunFolder(run_file.parent), self._volume)
        script = self._scripts[min(len(self.runs), len(self._scripts) - 1)]
        self.runs.append(played)
        handle = f"{run.job_id}/a{run.attempt}"
        self._tasks[handle] = asyncio.ensure_future(script(played))
        return handle

    async def poll(self, handle: str) -> RunStatus:
        task = self._tasks.get(handle)
        if task is None:
            return RunStatus(is_running=False)
        if not task.done():
            return RunStatus(is_running=True)
        if task.cancelled():
            return RunStatus(is_running=False, signal="SIGKILL")
        return task.result() or RunStatus(is_running=False, exit_code=0)

    async def stop(self, handle: str, grace_seconds: float) -> None:
        self.stops.append((handle, grace_seconds))
        task = self._tasks.get(handle)
        if task is None or task.done():
            return
        if grace_seconds > 0:
            self.run_of(handle).stop_asked.set()
            await asyncio.wait((task,), timeout=grace_seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def can_take_over(self, handle: str) -> bool:
        return False

    async def reap(self, is_over: JobIsOver) -> None:
        pass

    async def close(self) -> None:
        pass

    def run_of(self, handle: str) -> PlayedRun:
        return next(run for run in self.runs if handle == f"{run.run.job_id}/a{run.run.attempt}")

    @property
    def running(self) -> list[str]:
        return [handle for handle, task in self._tasks.items() if not task.done()]


def write_checkpoint(
    volume: Volume,
    run: TrainingRun,
    step: int,
    eval_loss: float | None = None,
    total_steps: int = TOTAL_STEPS,
) -> Path:
    """A whole checkpoint of a run, with a file of a few bytes."""
    writer = CheckpointWriter(volume.checkpoints(run.job_id), step, run.attempt)
    writer.begin()
    (writer.path / "model.safetensors").write_bytes(b"weights of step %d" % step)

    def manifest(files: dict[str, FileEntry]) -> Manifest:
        return Manifest(
            job_id=run.job_id,
            attempt=run.attempt,
            step=step,
            total_steps=total_steps,
            is_final=step == total_steps,
            base_model=run.spec.model,
            template={"name": "alpaca"},
            template_sha256="0" * 64,
            tokenizer_sha256="0" * 64,
            spec=run.spec,
            dataset_id=run.dataset_id,
            metrics=Metrics(loss=4.0 - step / 2, epoch=step / TOTAL_STEPS, eval_loss=eval_loss),
            created_at=now(),
            files=files,
        )

    return writer.commit(manifest)
