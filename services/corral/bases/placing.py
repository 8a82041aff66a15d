"""Puts a folder into its place whole or not at all, whoever else does the same at that moment.

Knows nothing of what is in the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from corral.storage import storage_errors


def place_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """The folder `target`, written by `write` into a temporary folder first where it is not there.

    One process writes, others wait for it. What a killed one left behind is removed. Raises
    StorageFullError without space.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name.lstrip('.')}.unpacking-"
    with _lock(target.parent / f"{prefix}lock"):
        if target.is_dir():
            return target
        for left_behind in target.parent.glob(f"{prefix}*"):
            if left_behind.is_dir():
                shutil.rmtree(left_behind, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            with storage_errors(target.name):
                write(folder)
                fsync_folder(folder)
            folder.rename(target)
        except OSError:
            if target.is_dir():  # a shared volume whose locks do not reach across machines
                return target
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fsync_folder(folder: Path) -> None:
    """Make a folder of files readable for everyone who shares the volume, and durable."""
    for path in (*folder.iterdir(), folder):
        # mkdtemp and safetensors let only their owner read; the volume is shared.
        path.chmod(0o755 if path.is_dir() else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
