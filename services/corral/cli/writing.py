"""A text file that a command writes: whole or not at all, or straight to where `-` or a device leads.

Knows nothing of what is written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

STDOUT = Path("-")


@contextmanager
def opened_for_writing(target: Path) -> Iterator[TextIO]:
    """A stream in UTF-8 whose text is `target`'s once the block ends.

    A regular file appears whole or stays as it was, and may be read meanwhile; through a symlink,
    what it leads to is written. Raises OSError.
    """
    if _is_stdout(target):
        yield sys.stdout
        sys.stdout.flush()
        return
    if target.exists() and not target.is_file():
        # A device or a pipe: a file renamed over it would take its place.
        with target.open("w", encoding="utf-8") as stream:
            yield stream
        return
    whole = target.resolve()
    unfinished = whole.with_name(f".{whole.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            yield stream
        unfinished.replace(whole)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_stdout(target: Path) -> bool:
    """Also by a name such as /dev/stdout, even where that leads to a regular file by now."""
    if target == STDOUT:
        return True
    try:
        return os.path.samestat(target.stat(), os.fstat(sys.stdout.fileno()))
    except OSError:  # nothing there yet, or a stdout that is no file
        return False
