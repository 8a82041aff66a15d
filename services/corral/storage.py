"""A full volume, said in our words. Knows nothing of what was being written."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from corral.errors import StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINT = "What was complete before is kept. Free space: delete jobs, or keep fewer checkpoints."


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a StorageFullError that names `what`."""
    try:
        yield
    # Not OSError alone: safetensors raises an error of its own around the system's.
    except Exception as error:
        if _errno_of(error) not in _FULL:
            raise
        raise StorageFullError(f"No space is left on the volume for {what}.", _HINT) from error


def _errno_of(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # Known by its name, since not every process that stores has the package.
    if type(error).__name__ == "SafetensorError":
        found = re.search(r"os error (\d+)", str(error))
        return int(found[1]) if found else None
    return None
