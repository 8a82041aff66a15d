"""Keeps groups of processes running: started in order, stopped in the opposite order.

Knows nothing of what the processes are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from corral.cli.up.child import Child, ChildSpec, Say

Stages = Sequence[Sequence[ChildSpec]]


class Supervisor:
    """Runs stages of processes; each stage starts when all of the one before are ready."""

    def __init__(self, stages: Stages, say: Say, inherited: Sequence[int] = ()) -> None:
        """`inherited` are file descriptors that every process gets."""
        self._stages = [[Child(spec, say, inherited) for spec in stage] for stage in stages]
        self._tasks: list[asyncio.Task[None]] = []

    async def run(
        self, shutdown: asyncio.Event, force: asyncio.Event, on_ready: Callable[[], None]
    ) -> None:
        """Start all, call `on_ready`, keep all running until `shutdown`, stop all.

        With `force` what is still there is killed. Raises LaunchError when a process keeps ending;
        then too all are stopped first.
        """
        try:
            for stage in self._stages:
                self._tasks += [child.start() for child in stage]
                if not await self._comes_first(asyncio.create_task(_ready(stage)), shutdown):
                    return
            on_ready()
            await self._comes_first(asyncio.get_running_loop().create_future(), shutdown)
        finally:
            await self._stop(force)

    async def _comes_first(self, condition: asyncio.Future[Any], shutdown: asyncio.Event) -> bool:
        """Wait for the condition (True) or shutdown (False). Raises what a process' task raised."""
        asked = asyncio.create_task(shutdown.wait())
        try:
            waited: list[asyncio.Future[Any]] = [condition, asked, *self._tasks]
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task in done:
                    task.result()
            return condition in done and asked not in done
        finally:
            asked.cancel()
            condition.cancel()

    async def _stop(self, force: asyncio.Event) -> None:
        for stage in reversed(self._stages):
            await asyncio.gather(*(child.stop(force) for child in stage))


async def _ready(stage: Sequence[Child]) -> None:
    for child in stage:
        await child.ready.wait()
