"""One `corral up` per data folder: a lock that ends with the processes that hold it.

The children inherit it, so that a new `corral up` waits for those of one that was killed. Knows
nothing of what they do.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import AlreadyRunningError, CorralError, InvalidRequestError, StorageFullError

LOCK_NAME = "up.lock"
_LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True)
class FolderLock:
    """A held lock. `descriptor` may be passed on to children, which then hold it too."""

    path: Path
    descriptor: int

    @classmethod
    def acquire(cls, folder: Path, wait_seconds: float, say: Callable[[str], None]) -> FolderLock:
        """Lock a data folder, which is made if need be.

        Waits up to `wait_seconds` for children of a holder that has died itself. Raises
        AlreadyRunningError naming the holder; InvalidRequestError for a folder that can't be used.
        """
        path = folder / LOCK_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(folder, error) from None
        try:
            _wait_for(descriptor, path, wait_seconds, say)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def describe(self, server: str) -> None:
        """Write down who holds the lock, for whoever is refused."""
        content = json.dumps({"pid": os.getpid(), "server": server}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)

    def release(self) -> None:
        """Let go; children that were given the descriptor still hold it."""
        os.close(self.descriptor)


def _wait_for(descriptor: int, path: Path, wait_seconds: float, say: Callable[[str], None]) -> None:
    give_up = time.monotonic() + wait_seconds
    has_said = False
    while not _try(descriptor):
        holder = _holder(path)
        pid = holder.get("pid")
        if _is_alive(pid) or time.monotonic() > give_up:
            raise _refusal(path.parent, holder)
        if not has_said:
            say(f"Waiting for the processes of the last corral up (pid {pid}) to end.")
            has_said = True
        time.sleep(_LOOK_AGAIN_SECONDS)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> dict[str, Any]:
    """What the holder wrote; empty while it has not written it."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refusal(folder: Path, holder: dict[str, Any]) -> AlreadyRunningError:
    pid, server = holder.get("pid", "unknown"), holder.get("server", "")
    at = f", at {server}" if server else ""
    use = f"Use it (--server {server}), stop it" if server else "Stop it"
    return AlreadyRunningError(
        f"Another corral up works on {folder} already (pid {pid}{at}).",
        f"{use}, or choose another folder with --data.",
    )


def _unusable(folder: Path, error: OSError) -> CorralError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(f"No space is left for {folder}.", "Free some, or choose another.")
    return InvalidRequestError(
        f"The data folder {folder} can't be used: {error.strerror}.",
        "Choose a folder that you may write to with --data.",
    )
