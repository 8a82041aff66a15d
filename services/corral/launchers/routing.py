"""One launcher out of several: a run starts where its spec says, and is found again by its handle.

A backend is set up with its first use, so that a worker without a cluster or a Modal account can do
what needs neither. Knows nothing of how any of them runs a run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from corral.errors import CorralError, LaunchError, SpecError
from corral.launchers.base import JobIsOver, Launcher, RunStatus
from corral.run import TrainingRun

_log = structlog.stdlib.get_logger(__name__)


class RoutingLauncher:
    """The Launcher protocol over named backends. A handle's `kind` is the name of its backend."""

    def __init__(self, default: str, backends: Mapping[str, Callable[[], Launcher]]) -> None:
        """`default` is the backend of a run that names none; each backend is built once."""
        self._default = default
        self._backends = backends
        self._built: dict[str, Launcher] = {}

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        return await self._named(run.spec.backend or self._default).start(run_file, run)

    async def poll(self, handle: str) -> RunStatus:
        return await self._of(handle).poll(handle)

    async def stop(self, handle: str, grace_seconds: float) -> None:
        await self._of(handle).stop(handle, grace_seconds)

    def can_take_over(self, handle: str) -> bool:
        return self._of(handle).can_take_over(handle)

    async def reap(self, is_over: JobIsOver) -> None:
        """In every backend; that one can't be asked keeps no other one from it."""
        for name in self._backends:
            try:
                await self._named(name).reap(is_over)
            except CorralError as error:
                _log.warning("could not clear away what is left", backend=name, error=str(error))

    async def close(self) -> None:
        await asyncio.gather(*(launcher.close() for launcher in self._built.values()))

    def _named(self, name: str) -> Launcher:
        if name not in self._backends:
            raise SpecError(
                f"backend: this deployment has no {name!r}.",
                f"It has: {', '.join(self._backends)}.",
            )
        if name not in self._built:
            self._built[name] = self._backends[name]()
        return self._built[name]

    def _of(self, handle: str) -> Launcher:
        try:
            return self._named(str(json.loads(handle)["kind"]))
        except (ValueError, KeyError, TypeError):
            raise LaunchError(f"{handle!r:.80} is not a handle of any launcher.") from None
