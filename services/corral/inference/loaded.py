"""Which models are in memory: loaded on first use, the longest unused ones evicted for a new one.

Loading runs in a thread beside the answers. Belongs to one event loop, whose single thread keeps the
books. Knows nothing of names, jobs or tensors: what a model is and how it loads is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

import structlog

from corral.errors import BusyError, CorralError, InvalidRequestError
from corral.formatting import size as format_size

_log = structlog.stdlib.get_logger(__name__)

SETTING = "CORRAL_INFERENCE_MEMORY"

Parts: TypeAlias = Mapping[Hashable, int]


class Sized(Protocol):
    """What the cache needs to know of a model."""

    @property
    def parts(self) -> Parts:
        """Bytes that it keeps in memory by what they are of; what models share has one key."""


M = TypeVar("M", bound=Sized)


@dataclass
class _Entry(Generic[M]):
    loading: asyncio.Future[M]
    parts: Parts
    users: int = 0

    @property
    def is_loaded(self) -> bool:
        return self.loading.done()


class ModelCache(Generic[M]):
    """Models by their folders, at most `budget` bytes of them together with what `reserved` says that
    others have of it.

    `load` and `estimate` (the parts of a folder's model once loaded) are called in a thread of the cache's own,
    one at a time. `improve` is asked in another, once for each loaded model, for a better one of the
    same folder, or None: later users get that, earlier ones keep what they have.
    """

    def __init__(
        self,
        load: Callable[[Path], M],
        estimate: Callable[[Path], Parts],
        *,
        budget: int,
        reserved: Callable[[], int] = lambda: 0,
        improve: Callable[[Path, M], M | None] | None = None,
    ) -> None:
        self._load = load
        self._estimate = estimate
        self._budget = budget
        self._reserved = reserved
        self._improve = improve
        self._improver = ThreadPoolExecutor(1, thread_name_prefix="corral-improve")
        self._improving: set[asyncio.Task[None]] = set()
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
        return entry is not None and entry.is_loaded

    @property
    def loaded(self) -> int:
        """How many models are in memory now."""
        return sum(entry.is_loaded for entry in self._entries.values())

    @property
    def loaded_bytes(self) -> int:
        """Bytes of the models in memory, and of those that are being loaded; what several share
        counts once.
        """
        return _bytes_of(entry.parts for entry in self._entries.values())

    @property
    def budget(self) -> int:
        """Bytes that models, and what is reserved, may take together."""
        return self._budget

    def bytes_of(self, folder: Path) -> int:
        """Bytes that would be free without this model; 0 where it is not loaded."""
        if not self.is_loaded(folder):
            return 0
        others = (entry.parts for path, entry in self._entries.items() if path != folder)
        return self.loaded_bytes - _bytes_of(others)

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
        for task in self._improving:
            task.cancel()
        self._improver.shutdown(wait=True, cancel_futures=True)
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._entries.clear()

    async def _entry(self, folder: Path) -> _Entry[M]:
        if folder in self._entries:
            return self._entries[folder]
        loop = asyncio.get_running_loop()
        parts = await loop.run_in_executor(self._thread, self._estimate, folder)
        # Somebody else may have asked for it meanwhile; from here on nothing is awaited.
        if folder not in self._entries:
            self._make_room(folder, parts)
            loading = loop.create_task(self._load_into_entry(folder))
            # Looked at here, since everybody who waits for it may have gone away.
            loading.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._entries[folder] = _Entry(loading, parts)
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
            entry.parts = model.parts
        size = format_size(_bytes_of([model.parts]))
        _log.info("model loaded", folder=str(folder), size=size)
        if self._improve is not None:
            task = loop.create_task(self._improve_entry(self._improve, folder, model))
            self._improving.add(task)
            task.add_done_callback(self._improving.discard)
        return model

    async def _improve_entry(
        self, improve: Callable[[Path, M], M | None], folder: Path, model: M
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            better = await loop.run_in_executor(self._improver, improve, folder, model)
        except (CorralError, OSError, RuntimeError) as error:
            # What is loaded still answers.
            _log.warning("model not improved", folder=str(folder), error=str(error))
            return
        entry = self._entries.get(folder)
        if better is None or entry is None:
            return
        ready: asyncio.Future[M] = loop.create_future()
        ready.set_result(better)
        entry.loading = ready
        entry.parts = better.parts

    def _make_room(self, folder: Path, parts: Parts) -> None:
        size = _bytes_of([parts])
        if size > self._budget:
            raise InvalidRequestError(
                f"The model needs {format_size(size)} of memory;"
                f" inference may use {format_size(self._budget)}.",
                f"Start the inference service with a greater {SETTING} (bytes).",
            )
        allowed = self._budget - self._reserved()
        kept = {path: entry.parts for path, entry in self._entries.items()}
        for path, entry in self._entries.items():
            if _bytes_of([*kept.values(), parts]) <= allowed:
                break
            if entry.users == 0 and entry.is_loaded:
                del kept[path]
        if _bytes_of([*kept.values(), parts]) > allowed:
            free = max(allowed - _bytes_of(kept.values()), 0)
            raise BusyError(
                f"The model needs {format_size(size)} of memory; of the"
                f" {format_size(self._budget)} that inference may use, models that are answering now"
                f" leave {format_size(free)}.",
                f"Try again when they are done, or raise {SETTING} (bytes).",
            )
        for path in self._entries.keys() - kept.keys():
            del self._entries[path]
            _log.info("model evicted", folder=str(path), for_folder=str(folder))


def _bytes_of(models: Iterable[Parts]) -> int:
    """Bytes of all together: what several share counts once."""
    together: dict[Hashable, int] = {}
    for parts in models:
        together |= parts
    return sum(together.values())
