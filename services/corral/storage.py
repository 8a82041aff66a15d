"""A volume that is full or fails, said in our words. Knows nothing of what was being written."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from corral.errors import StorageFailedError, StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# A disk that fails, one that went read-only for it, a network file system that is gone.
_FAILED = (errno.EIO, errno.EROFS, errno.ESTALE)
_FULL_HINT = "What was complete before is kept. Free space: delete jobs, or keep fewer checkpoints."
_FAILED_HINT = "What was complete before is kept. Look at the disk and at the system's log."


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a StorageFullError that names `what`, and a
    disk or a share that does not work into a StorageFailedError.
    """
    try:
        yield
    # Not OSError alone: safetensors raises an error of its own around the system's.
    except Exception as error:
        number = _errno_of(error)
        if number in _FULL:
            message = f"No space is left on the volume for {what}."
            raise StorageFullError(message, _FULL_HINT) from error
        if number in _FAILED:
            message = f"The volume failed at {what}: {os.strerror(number)}."
            raise StorageFailedError(message, _FAILED_HINT) from error
        raise


def _errno_of(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # Known by its name, since not every process that stores has the package.
    if type(error).__name__ == "SafetensorError":
        found = re.search(r"os error (\d+)", str(error))
        return int(found[1]) if found else None
    return None
