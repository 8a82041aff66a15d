"""One at a time, among all processes that share the volume. Knows nothing of what it guards."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LOOK_AGAIN_SECONDS = 0.05


@asynccontextmanager
async def only_one(path: Path) -> AsyncIterator[None]:
    """Hold the lock file's lock; its folder has to be there. A process that dies gives it back."""
    with path.open("ab") as file:
        while True:
            # Never waiting for it in a thread: the holder needs those.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        yield
