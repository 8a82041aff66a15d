"""A checkpoint's folder appears whole or not at all.

It is written under a temporary name beside its final one; every file is hashed as it is written, and
fsynced; the manifest is written last; the folder is fsynced and renamed onto a name that never
existed, since the name holds the attempt; then the parent is fsynced. Knows nothing of what the files
mean.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from corral.checkpoints.manifest import MANIFEST_NAME, FileEntry, Manifest, sha256_of
from corral.storage import storage_errors

_COMPLETE = re.compile(r"^step-(?P<step>\d+)-a(?P<attempt>\d+)$")
_TEMPORARY_PREFIX = ".writing-"
_TRASH_PREFIX = ".trash-"
# What a process that does not commit says of the files it wrote, for the one that does.
_HANDED_OVER = ".entries-{rank}.json"


def checkpoint_name(step: int, attempt: int) -> str:
    """The folder's name; names sort by step."""
    return f"step-{step:08d}-a{attempt}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Folders that hold a manifest, the oldest step first, then the older attempt."""
    if not folder.is_dir():
        return []
    found = [
        (int(match["step"]), int(match["attempt"]), path)
        for path in folder.iterdir()
        if (match := _COMPLETE.match(path.name)) and (path / MANIFEST_NAME).is_file()
    ]
    return [path for _, _, path in sorted(found)]


class CheckpointWriter:
    """One checkpoint in the making.

    Several processes may write files into `path` (on the shared volume), each with a writer of its
    own; one of them, after all are done, calls `commit`. Until then nothing that lists checkpoints
    can see it.
    """

    def __init__(self, parent: Path, step: int, attempt: int) -> None:
        self._final = parent / checkpoint_name(step, attempt)
        self._entries: dict[str, FileEntry] = {}
        self.path = parent / f"{_TEMPORARY_PREFIX}{self._final.name}"

    @property
    def name(self) -> str:
        """The folder's name once it is complete."""
        return self._final.name

    def begin(self) -> None:
        """Make the temporary folder, empty even where a dead run of the same attempt left one.

        Raises StorageFullError or StorageFailedError.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        with storage_errors(f"checkpoint {self.name}"):
            self.path.mkdir(parents=True)

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write one file of the checkpoint, hashing what is written instead of reading it again,
        and fsync it. `name` is relative to the folder; folders above it are made.

        Raises StorageFullError or StorageFailedError.
        """
        path, digest, size = self.path / name, hashlib.sha256(), 0
        with storage_errors(f"checkpoint {self.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
                file.flush()
                os.fsync(file.fileno())
        self._entries[name] = FileEntry(sha256=digest.hexdigest(), size=size)

    def hand_over(self, rank: int) -> None:
        """Tell the process that commits what this one wrote; a process's last act on the folder.

        Raises StorageFullError or StorageFailedError.
        """
        said = {name: entry.model_dump() for name, entry in self._entries.items()}
        with storage_errors(f"checkpoint {self.name}"):
            path = self.path / _HANDED_OVER.format(rank=rank)
            path.write_text(json.dumps(said), encoding="utf-8")

    def commit(self, make_manifest: Callable[[dict[str, FileEntry]], Manifest]) -> Path:
        """Add the manifest and give the folder its final name.

        `make_manifest` gets the entry of each file: those that were written by `write`, here or by
        a process that handed over, and those that lie in the folder besides, which are hashed and
        fsynced now. Returns the final folder. Raises StorageFullError or StorageFailedError;
        FileExistsError where the name is taken, which no fenced attempt does.
        """
        if self._final.exists():
            raise FileExistsError(
                errno.EEXIST, "this attempt already wrote that step", str(self._final)
            )
        with storage_errors(f"checkpoint {self.name}"):
            entries = self._entries | self._handed_over()
            files = sorted(path for path in self.path.rglob("*") if path.is_file())
            for path in files:
                name = path.relative_to(self.path).as_posix()
                entries[name] = _persist(path, entries.get(name))
            manifest = self.path / MANIFEST_NAME
            manifest.write_text(
                make_manifest(dict(sorted(entries.items()))).model_dump_json(indent=2) + "\n",
                encoding="utf-8",
            )
            for path in (manifest, *{path.parent for path in files}, self.path):
                _fsync(path)
            self.path.rename(self._final)
            _fsync(self._final.parent)
        return self._final

    def _handed_over(self) -> dict[str, FileEntry]:
        """What the other processes wrote. Their notes are removed: they are no part of it."""
        found: dict[str, FileEntry] = {}
        for note in self.path.glob(_HANDED_OVER.format(rank="*")):
            said = json.loads(note.read_bytes())
            found |= {name: FileEntry.model_validate(entry) for name, entry in said.items()}
            note.unlink()
        return found

    def abandon(self) -> None:
        """Remove what was written so far; the checkpoints that stand are not touched."""
        shutil.rmtree(self.path, ignore_errors=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint so that no half of it can be listed meanwhile: rename first, then delete."""
    trash = path.with_name(_TRASH_PREFIX + path.name)
    shutil.rmtree(trash, ignore_errors=True)
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary and half-deleted folders. Only for the one worker that holds the job."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith((_TEMPORARY_PREFIX, _TRASH_PREFIX)):
            shutil.rmtree(path, ignore_errors=True)


def _persist(path: Path, written: FileEntry | None) -> FileEntry:
    """The entry of a file that is on the disk, hashed and fsynced here unless that was done."""
    # safetensors lets only the owner read; services that share the volume may be other users.
    path.chmod(0o644)
    size = path.stat().st_size
    if written is None:
        _fsync(path)
        return FileEntry(sha256=sha256_of(path), size=size)
    if size != written.size:
        raise OSError(errno.EIO, f"has {size} bytes, not the {written.size} written", str(path))
    return written


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
