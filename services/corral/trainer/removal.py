"""Folders that go: renamed first, so that no half of one can be found, then deleted.

Knows nothing of what is in them. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

_TRASH_PREFIX = ".trash-"
UPLOAD_PREFIX = ".upload-"
# A server that was killed leaves its uploads; another's may still be arriving.
_ABANDONED_SECONDS = 24 * 3600.0


def discard(folder: Path) -> None:
    """Remove a folder that may not exist. Gone from its name at once, from the disk after that."""
    trash = folder.with_name(f"{_TRASH_PREFIX}{folder.name}-{secrets.token_hex(4)}")
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Finish what a killed server began to remove or to receive below a folder."""
    if not parent.is_dir():
        return
    for path in parent.iterdir():
        if path.name.startswith(_TRASH_PREFIX) or _is_abandoned_upload(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned_upload(path: Path) -> bool:
    if not path.name.startswith(UPLOAD_PREFIX):
        return False
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False
