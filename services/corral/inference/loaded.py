"""Which models are in memory: loaded on first use, the longest unused ones evicted for a new one.

Loading runs in a thread beside the answers. Belongs to one event loop, whose single thread keeps the
books. Knows nothing of names, jobs or tensors: what a model is and how it loads is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from corral.errors import BusyError, InvalidRequestError
from corral.formatting import size as format_size

_log = structlog.stdlib.get_logger(__name__)

SETTING = "CORRAL_INFERENCE_MEMORY"


class Sized(Protocol):
    """What the cache needs to know of a model."""

    @property
    def size_bytes(self) -> int: ...


M = TypeVar("M", bound=Sized)


@dataclass
class _Entry(Generic[M]):
    loading: asyncio.Task[M]
    size_bytes: int
    users: int = 0


class ModelCache(Generic[M]):
    """Models by their folders, at most `budget` bytes of them.

    `load` and `estimate` (bytes of a folder once loaded) are called in a thread of the cache's own,
    one at a time.
    """

    def __init__(
        self, load: Callable[[Path], M], estimate: Callable[[Path], int], *, budget: int
    ) -> None:
        self._load = load
        self._estimate = estimate
        self._budget = budget
        # The longest unused first.
        self._entries: dict[Path, _Entry[M]] = {}
        # One thread: transformers changes torch's default type while it loads, so two at once could
        # leave it changed for good.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="corral-load")

    def prepare(self, function: Callable[[], None]) -> asyncio.Future[None]:
        """Run a function in the thread that loads, before the loads that are asked for later."""
        return asyncio.get_running_loop().run_in_executor(self._thread, function)

    def is_loaded(self, folder: Path) -> bool:
        """Whether its weights are in memory now."""
        entry = self._entries.get(folder)
        return entry is not None and entry.loading.done()

    @property
    def loaded(self) -> int:
        """How many models are in memory now."""
        return sum(entry.loading.done() for entry in self._entries.values())

    @property
    def loaded_bytes(self) -> int:
        """Bytes of the models in memory, and of those that are being loaded."""
        return sum(entry.size_bytes for entry in self._entries.values())

    @asynccontextmanager
    async def use(self, folder: Path) -> AsyncIterator[M]:
        """The model, which stays in memory at least as long as the context. Asked for twice at the
        same time it is loaded once.

        Raises InvalidRequestError for a model above the whole budget, BusyError while models in use
        leave too little of it, and what loading raises.
        """
        entry = await self._entry(folder)
        entry.users += 1
        try:
            # A caller who goes away must not end the load for the others.
            model = await asyncio.shield(entry.loading)
            yield model
        finally:
            entry.users -= 1
            if self._entries.get(folder) is entry:
                # Move to the end of the dict: used last.
                self._entries[folder] = self._entries.pop(folder)

    def close(self) -> None:
        """Forget every model. A load that has begun is waited for."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._entries.clear()

    async def _entry(self, folder: Path) -> _Entry[M]:
        if folder in self._entries:
            return self._entries[folder]
        loop = asyncio.get_running_loop()
        size = await loop.run_in_executor(self._thread, self._estimate, folder)
        # Somebody else may have asked for it meanwhile; from here on nothing is awaited.
        if folder not in self._entries:
            self._make_room(folder, size)
            loading = loop.create_task(self._load_into_entry(folder))
            # Looked at here, since everybody who waits for it may have gone away.
            loading.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._entries[folder] = _Entry(loading, size)
        return self._entries[folder]

    async def _load_into_entry(self, folder: Path) -> M:
        loop = asyncio.get_running_loop()
        try:
            model = await loop.run_in_executor(self._thread, self._load, folder)
        except BaseException:
            # The next one who asks shall try again.
            self._entries.pop(folder, None)
            raise
        if entry := self._entries.get(folder):
            entry.size_bytes = model.size_bytes
        _log.info("model loaded", folder=str(folder), size=format_size(model.size_bytes))
        return model

    def _make_room(self, folder: Path, size: int) -> None:
        if size > self._budget:
            raise InvalidRequestError(
                f"The model needs {format_size(size)} of memory; inference may use {format_size(self._budget)}.",
                f"Start the inference service with a greater {SETTING} (bytes).",
            )
        free = self._budget - sum(entry.size_bytes for entry in self._entries.values())
        evicted = []
        for path, entry in self._entries.items():
            if free >= size:
                break
            if entry.users == 0 and entry.loading.done():
                evicted.append(path)
                free += entry.size_bytes
        if free < size:
            raise BusyError(
                f"The model needs {format_size(size)} of memory; of the {format_size(self._budget)} that inference"
                f" may use, models that are answering now leave {format_size(max(free, 0))}.",
                f"Try again when they are done, or raise {SETTING} (bytes).",
            )
        for path in evicted:
            del self._entries[path]
            _log.info("model evicted", folder=str(path), for_folder=str(folder))
