"""A checkpoint's folder appears whole or not at all.

It is written under a temporary name beside its final one; every file is fsynced and hashed; the
manifest is written last; the folder is fsynced and renamed onto a name that never existed, since the
name holds the attempt; then the parent is fsynced. Knows nothing of what the files mean.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from corral.checkpoints.manifest import MANIFEST_NAME, FileEntry, Manifest, sha256_of
from corral.storage import storage_errors

_COMPLETE = re.compile(r"^step-(?P<step>\d+)-a(?P<attempt>\d+)$")
_TEMPORARY_PREFIX = ".writing-"
_TRASH_PREFIX = ".trash-"


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

    Several processes may write files into `path` (on the shared volume); one of them, after all are
    done, calls `commit`. Until then nothing that lists checkpoints can see it.
    """

    def __init__(self, parent: Path, step: int, attempt: int) -> None:
        self._final = parent / checkpoint_name(step, attempt)
        self.path = parent / f"{_TEMPORARY_PREFIX}{self._final.name}"

    def begin(self) -> None:
        """Make the temporary folder, empty even where a dead run of the same attempt left one."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)

    def commit(self, make_manifest: Callable[[dict[str, FileEntry]], Manifest]) -> Path:
        """Hash and fsync what was written, add the manifest, and give the folder its final name.

        `make_manifest` gets the entry of each file. Returns the final folder. Raises
        StorageFullError; FileExistsError where the name is taken, which no fenced attempt does.
        """
        if self._final.exists():
            raise FileExistsError(
                errno.EEXIST, "this attempt already wrote that step", str(self._final)
            )
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        entries = {path.relative_to(self.path).as_posix(): _persist(path) for path in files}
        with storage_errors(f"checkpoint {self._final.name}"):
            manifest = self.path / MANIFEST_NAME
            manifest.write_text(
                make_manifest(entries).model_dump_json(indent=2) + "\n", encoding="utf-8"
            )
            _fsync(manifest)
        for folder in {path.parent for path in files} | {self.path}:
            _fsync(folder)
        self.path.rename(self._final)
        _fsync(self._final.parent)
        return self._final

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


def _persist(path: Path) -> FileEntry:
    with storage_errors(path.name):
        _fsync(path)
    # safetensors lets only the owner read; services that share the volume may be other users.
    path.chmod(0o644)
    return FileEntry(sha256=sha256_of(path), size=path.stat().st_size)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
