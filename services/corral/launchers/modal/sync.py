"""Between home and the remote volume: what goes up before a run, what comes home while it runs.

Up go the rows, the checkpoint to go on from and a base model that is a folder here; what
is there already is not sent again. Home come checkpoints, whole and verified before they get their
name, and only then the events that tell of them. Knows nothing of calls or of jobs' states.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from corral.bases.hub import MODEL_PATTERNS
from corral.bases.smollm2 import NAME as SMOLLM2
from corral.checkpoints.folders import CheckpointWriter, complete_checkpoints
from corral.checkpoints.manifest import MANIFEST_NAME, FileEntry, Manifest
from corral.errors import CheckpointCorruptError, LaunchError
from corral.launchers.modal.order import STATUS_NAME, Status
from corral.launchers.modal.volumes import RemoteFile, Volumes
from corral.run import CheckpointWritten, TrainingRun, parse_events
from corral.storage import storage_errors
from corral.volume import Volume

_CHECKPOINT = re.compile(
    r"^checkpoints/(?P<job>[^/]+)/(?P<name>step-(?P<step>\d+)-a(?P<attempt>\d+))/"
)

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class BaseFolder:
    """A base model that lies in a folder here: where, and where below the remote volume.

    `here` is empty where its name leads to it on any volume.
    """

    source: Path
    here: str
    remote: str

    @classmethod
    def of(cls, model: str, volume: Volume) -> BaseFolder | None:
        """None for a model that the container gets by itself: from the hub, or out of its wheel."""
        if model.startswith("/"):
            digest = hashlib.sha256(model.encode()).hexdigest()[:16]
            return cls(Path(model), model, f"bases/.from-home-{digest}")
        if model != SMOLLM2 and (volume.bases / model).is_dir():
            return cls(volume.bases / model, "", f"bases/{model}")
        return None

    def files(self) -> list[tuple[Path, str]]:
        """What goes up: safetensors, JSON and templates."""
        found = {path for pattern in MODEL_PATTERNS for path in self.source.glob(pattern)}
        return [(path, f"{self.remote}/{path.name}") for path in sorted(found)]


async def send(volumes: Volumes, name: str, home: Volume, run: TrainingRun) -> None:
    """Put onto the volume what the run reads. Raises LaunchError where it is not here."""
    there = {file.path: file.size for file in await volumes.files(name)}
    rows = home.dataset_rows(run.dataset_id)
    if not rows.is_file():
        raise LaunchError(f"The rows of data set {run.dataset_id} are not on the volume: {rows}.")
    files = [(rows, f"datasets/{run.dataset_id}/{rows.name}")]
    base = BaseFolder.of(run.spec.model, home)
    files += base.files() if base is not None else []
    await volumes.upload(name, [pair for pair in files if _differs(pair, there)])
    if run.resume_from:
        await _send_checkpoint(volumes, name, home.checkpoints(run.job_id) / run.resume_from, there)


async def _send_checkpoint(
    volumes: Volumes, name: str, folder: Path, there: dict[str, int]
) -> None:
    prefix = f"checkpoints/{folder.parent.name}/{folder.name}"
    if f"{prefix}/{MANIFEST_NAME}" in there:
        return
    files = [(path, f"{prefix}/{relative}") for path, relative in _files_below(folder)]
    manifest = [pair for pair in files if pair[0].name == MANIFEST_NAME]
    rest = [pair for pair in files if pair not in manifest]
    await volumes.upload(name, [pair for pair in rest if _differs(pair, there)])
    await volumes.upload(name, manifest)


def _files_below(folder: Path) -> list[tuple[Path, str]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path, path.relative_to(folder).as_posix()) for path in found]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _differs(file: tuple[Path, str], there: dict[str, int]) -> bool:
    return there.get(file[1]) != file[0].stat().st_size


class Homecoming:
    """What a job's remote volume has for us, brought home time after time. Resumable at any point."""

    def __init__(self, volumes: Volumes, name: str, home: Volume, job: str, attempt: int) -> None:
        self._volumes = volumes
        self._name = name
        self._home = home
        self._job = job
        self._run = home.run(job, attempt)
        # Checkpoints that are home, or were: the worker removes those that are not kept.
        self._done = {path.name for path in complete_checkpoints(home.checkpoints(job))}

    async def bring(self, *, is_over: bool) -> Status | None:
        """Bring everything that is new; what the container says of itself, if it began.

        Until the run is over, no event comes before the checkpoint that it tells of.
        Raises CheckpointCorruptError where a checkpoint is not what its manifest says: it may still
        be on its way.
        """
        files = await self._volumes.files(self._name)
        paths = {file.path: file.size for file in files}
        status = await self._status(paths)
        events = await self._growth(self._run.events, paths)
        log = await self._growth(self._run.log, paths)
        if events:
            # As it is after them: they may tell of a checkpoint that was not there before.
            files = await self._volumes.files(self._name)
        for folder in self._new_checkpoints(files):
            await self._bring_checkpoint(folder, files)
        await asyncio.to_thread(_append, self._run.log, log)
        if not is_over:
            # A commit over there is not one moment.
            events = self._told_of_what_is_here(events)
        await asyncio.to_thread(_append, self._run.events, events)
        await self._remove_old(files)
        return status

    async def _status(self, paths: dict[str, int]) -> Status | None:
        if STATUS_NAME not in paths:
            return None
        return Status.of_bytes(await self._volumes.read(self._name, STATUS_NAME))

    async def _growth(self, local: Path, paths: dict[str, int]) -> bytes:
        """What a growing file has there beyond what is here."""
        remote = f"runs/{self._job}/{self._run.path.name}/{local.name}"
        size = _size(local)
        if paths.get(remote, 0) <= size:
            return b""
        return (await self._volumes.read(self._name, remote))[size:]

    def _told_of_what_is_here(self, events: bytes) -> bytes:
        """The events before the first that tells of a checkpoint that is not home."""
        lines = events.splitlines(keepends=True)
        for number, line in enumerate(lines):
            for event in parse_events([line.decode(errors="replace")]):
                if isinstance(event, CheckpointWritten) and event.folder not in self._done:
                    return b"".join(lines[:number])
        return events

    def _new_checkpoints(self, files: Sequence[RemoteFile]) -> list[str]:
        """Names of the complete ones that have not been home, the oldest first."""
        found = {
            (int(match["step"]), int(match["attempt"]), match["name"])
            for file in files
            if (match := _CHECKPOINT.match(file.path))
            and match["job"] == self._job
            and file.path.endswith(f"/{MANIFEST_NAME}")
        }
        # Another process may follow the same run.
        here = complete_checkpoints(self._home.checkpoints(self._job))
        self._done |= {path.name for path in here}
        return [name for _, _, name in sorted(found) if name not in self._done]

    async def _bring_checkpoint(self, name: str, files: Sequence[RemoteFile]) -> None:
        prefix = f"checkpoints/{self._job}/{name}/"
        manifest = await self._manifest(prefix)
        if manifest is None:
            raise CheckpointCorruptError(f"The manifest of {name} on Modal is not one.")
        writer = CheckpointWriter(
            self._home.checkpoints(self._job), manifest.step, manifest.attempt
        )
        for path, entry in manifest.files.items():
            await self._bring_file(writer.path, prefix, path, entry)
        await asyncio.to_thread(_commit, writer, manifest)
        self._done.add(name)

    async def _manifest(self, prefix: str) -> Manifest | None:
        content = await self._volumes.read(self._name, prefix + MANIFEST_NAME)
        try:
            return Manifest.model_validate_json(content)
        except ValueError:
            return None

    async def _bring_file(self, folder: Path, prefix: str, path: str, entry: FileEntry) -> None:
        target = folder / path
        _make_folder_of(target, folder)
        # Hashed at the commit. An empty file has the size of none.
        if entry.size and _size(target) == entry.size:
            return
        with storage_errors(f"checkpoint {folder.name}"), target.open("wb") as file:
            await self._volumes.read_into(self._name, prefix + path, file)

    async def _remove_old(self, files: Sequence[RemoteFile]) -> None:
        """Once home, only the newest is needed there: the next container goes on from it."""
        there = {
            (int(match["step"]), int(match["attempt"]), match["name"])
            for file in files
            if (match := _CHECKPOINT.match(file.path)) and match["job"] == self._job
        }
        for _, _, name in sorted(there)[:-1]:
            if name in self._done:
                await self._volumes.remove(self._name, f"/checkpoints/{self._job}/{name}")


def _make_folder_of(target: Path, folder: Path) -> None:
    if not target.resolve().is_relative_to(folder.resolve()):
        raise CheckpointCorruptError(f"{target} lies outside the checkpoint.")
    target.parent.mkdir(parents=True, exist_ok=True)


def _commit(writer: CheckpointWriter, manifest: Manifest) -> None:
    def verified(entries: dict[str, FileEntry]) -> Manifest:
        wrong = [path for path, entry in manifest.files.items() if entries.get(path) != entry]
        if wrong or entries.keys() != manifest.files.keys():
            raise CheckpointCorruptError(
                f"{writer.name}: {[*wrong, 'a file'][0]} is not as written."
            )
        return manifest

    try:
        writer.commit(verified)
    except CheckpointCorruptError:
        # All of it is fetched again.
        writer.abandon()
        raise
    except FileExistsError:
        writer.abandon()


def _append(path: Path, content: bytes) -> None:
    if content:
        with path.open("ab") as file:
            file.write(content)
