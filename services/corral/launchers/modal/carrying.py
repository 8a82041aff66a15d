"""Within the container: from the remote volume to the container's own disk before, and back as it comes.

Training works on the container's disk: a volume can only be reloaded while no file of it is open,
and what a killed container half wrote never reaches it. A checkpoint is carried when it is complete,
its manifest last, and before the event that tells of it. Knows nothing of modal or processes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from corral.checkpoints.folders import complete_checkpoints
from corral.checkpoints.manifest import MANIFEST_NAME
from corral.run import StepDone, TrainingRun, parse_events
from corral.volume import RunFolder, Volume

_ENDED_MARK = b'"kind":"ended"'
_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Carrier:
    """Two volumes of the same layout: `disk`, which trains, and `remote`, which outlives it."""

    disk: Volume
    remote: Volume
    job: str
    attempt: int

    @property
    def run(self) -> RunFolder:
        """The attempt's folder on the container's disk."""
        return self.disk.run(self.job, self.attempt)

    @property
    def remote_run(self) -> RunFolder:
        """The attempt's folder on the remote volume."""
        return self.remote.run(self.job, self.attempt)

    def fetch(self, run: TrainingRun) -> None:
        """Bring the data set, the checkpoint to go on from, and what this attempt wrote before."""
        for name in ("events", "log"):
            source, target = getattr(self.remote_run, name), getattr(self.run, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_file():
                shutil.copyfile(source, target)
        _end_line(self.run.events)
        rows = self.remote.datasets / run.dataset_id
        if rows.is_dir():
            shutil.copytree(rows, self.disk.datasets / run.dataset_id, dirs_exist_ok=True)
        if run.resume_from:
            name = run.resume_from
            target = self.disk.checkpoints(self.job) / name
            shutil.copytree(self.remote.checkpoints(self.job) / name, target)
        self._link_bases()

    def newest_checkpoint(self) -> str | None:
        """Name of the newest complete checkpoint on the remote volume."""
        found = complete_checkpoints(self.remote.checkpoints(self.job))
        return found[-1].name if found else None

    def carry(self, *, is_over: bool) -> bool:
        """Put what is new onto the remote volume; whether there was anything.

        A last event is held back while it is not the end: the same attempt may go on in the next
        container.
        """
        # What the events tell of is there before them.
        events = _read(self.run.events)
        changed = self._carry_checkpoints()
        if not is_over:
            events = events[: _start_of_end(events)]
        changed |= _extend(self.remote_run.events, events)
        return _extend(self.remote_run.log, _read(self.run.log)) or changed

    def last_step(self) -> int:
        """The newest step that the run has told of; 0 before the first."""
        lines = _read(self.run.events)[-_TAIL_BYTES:].decode(errors="replace").splitlines()
        steps = [event.step for event in parse_events(lines) if isinstance(event, StepDone)]
        return steps[-1] if steps else 0

    def _carry_checkpoints(self) -> bool:
        changed = False
        complete = complete_checkpoints(self.disk.checkpoints(self.job))
        for folder in complete:
            target = self.remote.checkpoints(self.job) / folder.name
            if not (target / MANIFEST_NAME).is_file():
                _copy_manifest_last(folder, target)
                changed = True
        # The disk needs only the newest; home decides what is kept.
        for folder in complete[:-1]:
            shutil.rmtree(folder, ignore_errors=True)
        return changed

    def _link_bases(self) -> None:
        """Base models stay on the volume: read once, and too large to copy."""
        self.disk.bases.mkdir(parents=True, exist_ok=True)
        for folder in self.remote.bases.iterdir() if self.remote.bases.is_dir() else ():
            (self.disk.bases / folder.name).symlink_to(folder, target_is_directory=True)


def _copy_manifest_last(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST_NAME))
    shutil.copyfile(source / MANIFEST_NAME, target / MANIFEST_NAME)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _start_of_end(events: bytes) -> int:
    at = events.rfind(_ENDED_MARK)
    return len(events) if at < 0 else events.rfind(b"\n", 0, at) + 1


def _extend(path: Path, content: bytes) -> bool:
    """Append what is missing; the file is always the beginning of the content."""
    size = path.stat().st_size if path.is_file() else 0
    if size >= len(content):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content[size:])
    return True


def _end_line(path: Path) -> None:
    """A line that a killed container wrote half must not swallow the next one."""
    content = _read(path)
    if content and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
