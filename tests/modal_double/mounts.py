"""A volume's committed files, and the working copy of each container that has it mounted.

The committed files are a folder, replaced one by one. A container works on a copy of its own: a commit
carries what changed in there out, a reload carries what changed outside in; where both sides
changed a file, the last commit wins, as in version 2 volumes. A commit is not one moment: a file that
is being written may go out half, and one that appears meanwhile may wait for the next commit.

Simplified: no limit on files or sizes, empty folders are not kept, nothing prevents a reload while files
are open. Knows nothing of the interface.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from uuid import uuid4

from modal_proto import api_pb2

# Names of files that are not there yet.
HALF = ".half"

_Seen = tuple[int, int, int]


@dataclass
class Volume:
    """`root` is the folder of its committed files."""

    id: str
    name: str
    version: int
    root: Path
    created_at: float = field(default_factory=time.time)

    @property
    def files(self) -> dict[str, bytes]:
        """What is committed, by path."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in _files(self.root)}

    @property
    def metadata(self) -> api_pb2.VolumeMetadata:
        created = api_pb2.CreationInfo(created_at=self.created_at, created_by="tester")
        return api_pb2.VolumeMetadata(
            version=self.version,
            name=self.name,
            creation_info=created,
        )


class Mount:
    """A container's working copy. Its methods block: they copy files."""

    def __init__(self, volume: Volume, folder: Path) -> None:
        self.volume = volume
        self.folder = folder
        self._inside: dict[Path, _Seen] = {}
        self._outside: dict[Path, _Seen] = {}
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.reload()

    def commit(self) -> None:
        with self._lock:
            self._commit()

    def reload(self) -> None:
        with self._lock:
            self._commit()
            _carry(self.volume.root, self.folder, self._outside, self._inside)

    def _commit(self) -> None:
        if self.volume.root.exists():
            _carry(self.folder, self.volume.root, self._inside, self._outside)


def _carry(source: Path, target: Path, known: dict[Path, _Seen], there: dict[Path, _Seen]) -> None:
    """Make changes of `source` since `known` in `target` too; both dictionaries learn of it."""
    found: set[Path] = set()
    for path in _files(source):
        name = path.relative_to(source)
        with suppress(FileNotFoundError):
            # Before the copy: what is written during it is a change again.
            seen = _seen(path)
            found.add(name)
            if seen != known.get(name):
                _copy(path, target / name)
                known[name] = seen
                there[name] = _seen(target / name)
    for name in set(known) - found:
        del known[name]
        there.pop(name, None)
        remove(target, target / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{uuid4().hex}{HALF}")
    try:
        shutil.copy2(source, half, follow_symlinks=False)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def remove(root: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root:
            break
        with suppress(OSError):
            folder.rmdir()


def _seen(path: Path) -> _Seen:
    stat = path.lstat()
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if not name.endswith(HALF):
                yield Path(folder, name)
