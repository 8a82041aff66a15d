"""Ends and clears away what jobs have left on Modal once they are over.

All is found from over there: a volume's name says whose it is, owner.json which call works for the
job. So nothing is forgotten where a worker died, or its files are gone. Knows nothing of the queue:
whoever calls says whether a job is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from corral.errors import CorralError, UnavailableError
from corral.launchers.base import JobIsOver
from corral.launchers.modal.functions import Functions
from corral.launchers.modal.handle import JobVolume
from corral.launchers.modal.order import OWNER_NAME, Owner
from corral.launchers.modal.volumes import Volumes

_log = structlog.stdlib.get_logger(__name__)

# Ends and brings home what is known here of a job, by its id; whether its volume may go: everything is
# home, and nobody wants it kept.
Settle = Callable[[str], Awaitable[bool]]


class Reaper:
    """Of one deployment: another one's volumes in the same account are never touched."""

    def __init__(
        self, functions: Functions, volumes: Volumes, deployment: str, settle: Settle
    ) -> None:
        self._functions = functions
        self._volumes = volumes
        self._deployment = deployment
        self._settle = settle

    async def reap(self, is_over: JobIsOver) -> None:
        """End the calls of jobs that are over, and delete their volumes.

        Raises UnavailableError or BackendRefusedError where Modal can't be asked, after the others:
        one volume's trouble is not the next one's.
        """
        left: UnavailableError | None = None
        for volume in await self._volumes.named():
            owner = JobVolume.parse(volume.name)
            if owner is None or owner.deployment != self._deployment:
                continue
            try:
                if await is_over(owner.job):
                    await self._clear_away(volume.name, owner.job)
            except CorralError as error:
                _log.warning("left on Modal for now", volume=volume.name, error=str(error))
                left = error if isinstance(error, UnavailableError) else left
        if left is not None:
            raise left

    async def end_call(self, volume: str) -> None:
        """End the call that works for a volume's job, if there is one."""
        try:
            owner = Owner.of_bytes(await self._volumes.read(volume, OWNER_NAME))
        except FileNotFoundError:
            return
        if owner is not None and owner.call and await self._functions.outcome(owner.call) is None:
            _log.warning("ending a forgotten run", volume=volume, call=owner.call)
            await self._functions.cancel(owner.call)

    async def _clear_away(self, volume: str, job: str) -> None:
        may_go = await self._settle(job)
        await self.end_call(volume)
        if may_go:
            _log.info("deleting the volume", volume=volume, job=job)
            await self._volumes.delete(volume)
