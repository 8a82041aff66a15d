"""A copy of one kind of object, kept up to date by one LIST and one WATCH however many ask.

Lists once, watches from the version that the list showed, and goes on from the last version that it
saw whenever a watch ends. Only a version that the server has forgotten (410) and the slow resync
list again. Knows nothing of what the objects mean.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import structlog

from corral.errors import CorralError, LaunchError, UnavailableError
from corral.launchers.kubernetes.api import Cluster, Resource, pause
from corral.launchers.kubernetes.connection import GoneError, Json

# A watch misses nothing; the resync is for what nobody thought of.
RESYNC_SECONDS = 600.0
_WATCH_SECONDS = 280
# Watches that end together should not begin together.
_JITTER = 0.2
_TOMBSTONES = 1000

_log = structlog.stdlib.get_logger(__name__)


class Mirror:
    """Objects of one kind with some labels, found by a key that several may share."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        labels: Mapping[str, str],
        key: Callable[[Json], str],
    ) -> None:
        self._cluster = cluster
        self._resource = resource
        self._labels = labels
        self._key = key
        self._objects: dict[str, dict[str, Json]] = defaultdict(dict)
        # Uids of what was deleted, since an answer that was under way then may still be put.
        self._deleted: deque[str] = deque(maxlen=_TOMBSTONES)
        self._synced = asyncio.Event()
        self._trouble: CorralError | None = None
        self._task: asyncio.Task[None] | None = None

    async def of(self, key: str) -> list[Json]:
        """The objects with that key. The first call begins to follow.

        Raises LaunchError or UnavailableError, as the cluster has it, where the first list does not
        come within the cluster's patience.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"mirror {self._resource.plural}")
        try:
            async with asyncio.timeout(self._cluster.patience):
                await self._synced.wait()
        except TimeoutError:
            raise self._why_not() from None
        return list(self._objects.get(key, {}).values())

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def put(self, found: Json) -> None:
        """Take over an object that another call returned, unless a newer version is known."""
        if found["metadata"].get("uid") in self._deleted:
            return
        objects, name = self._objects[self._key(found)], _name(found)
        known = objects.get(name)
        if known is None or not _is_older(found, known):
            objects[name] = found

    def _why_not(self) -> CorralError:
        kind = LaunchError if isinstance(self._trouble, LaunchError) else UnavailableError
        reason = self._trouble.message if self._trouble else "it does not answer."
        hint = self._trouble.hint if self._trouble else ""
        return kind(f"The cluster does not list its {self._resource.plural}: {reason}", hint)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        version, resync_at, failures = "", 0.0, 0
        while True:
            try:
                if not version or loop.time() >= resync_at:
                    version = await self._list()
                    resync_at = loop.time() + _jittered(RESYNC_SECONDS)
                seconds = int(_jittered(_WATCH_SECONDS))
                watch = self._cluster.watch(self._resource, self._labels, version, seconds)
                async with aclosing(watch) as events:
                    async for event in events:
                        version = self._apply(event)
                        failures, self._trouble = 0, None
            except GoneError:
                version = ""
                failures += 1
            except CorralError as error:
                failures += 1
                self._note(error)
            except Exception:  # noqa: BLE001 - a bug in one event must not leave all runs without news
                version = ""
                failures += 1
                _log.exception("watch failed", kind=self._resource.plural)
            await asyncio.sleep(pause(failures))

    def _note(self, trouble: CorralError) -> None:
        """Remember it, and log it once while it lasts."""
        if self._trouble is None or self._trouble.message != trouble.message:
            _log.warning("watch broke off", kind=self._resource.plural, error=str(trouble))
        self._trouble = trouble

    async def _list(self) -> str:
        items, version = await self._cluster.list(self._resource, self._labels)
        known = {_name(one): one for group in self._objects.values() for one in group.values()}
        self._objects.clear()
        for item in items:
            before = known.get(_name(item))
            # A list may come from a server that lags behind what was seen already.
            self.put(before if before is not None and _is_older(item, before) else item)
        self._synced.set()
        return version

    def _apply(self, event: Json) -> str:
        found = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            self.put(found)
        elif event["type"] == "DELETED":
            self._deleted.append(found["metadata"].get("uid", ""))
            group = self._objects[self._key(found)]
            group.pop(_name(found), None)
            if not group:
                del self._objects[self._key(found)]
        return str(found["metadata"]["resourceVersion"])


def _name(found: Json) -> str:
    return str(found["metadata"]["name"])


def _is_older(one: Json, other: Json) -> bool:
    """Whether one is an earlier version of the very same object, as numbers where they are such."""
    mine, theirs = one["metadata"], other["metadata"]
    versions: list[Any] = [mine.get("resourceVersion"), theirs.get("resourceVersion")]
    if mine.get("uid") != theirs.get("uid") or not all(str(v).isdecimal() for v in versions):
        return False
    return int(versions[0]) < int(versions[1])


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads callers, hides nothing
