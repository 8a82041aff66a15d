"""What of Corral's is on a Modal account: volumes, their sizes, what they cost, who still works on them.

For people who look and clean up by hand; the reaper does so for its own deployment by itself. Knows
nothing of the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.launchers.modal.client import Connection
from corral.launchers.modal.functions import Functions
from corral.launchers.modal.handle import JobVolume
from corral.launchers.modal.order import OWNER_NAME, Owner
from corral.launchers.modal.prices import VOLUME_GIB_MONTH
from corral.launchers.modal.volumes import Volumes

_GIB = 1024**3


@dataclass(frozen=True)
class Leftover:
    """One volume. `is_ours`: of this data folder; `call` is the one that works on it now, if any."""

    name: str
    job: str
    is_ours: bool
    size_bytes: int
    created_at: float
    call: str = ""

    @property
    def cost_a_month(self) -> float:
        """US dollars, where the account's free first TiB is used up already."""
        return self.size_bytes / _GIB * VOLUME_GIB_MONTH


class Leftovers:
    """The volumes of one account. `deployment` is this data folder's."""

    def __init__(self, connection: Connection, deployment: str) -> None:
        self._functions = Functions(connection)
        self._volumes = Volumes(connection)
        self._deployment = deployment

    async def find(self) -> list[Leftover]:
        """All of Corral's, the oldest first. Raises BackendRefusedError or UnavailableError."""
        found = []
        for volume in await self._volumes.named():
            owner = JobVolume.parse(volume.name)
            if owner is None:
                continue
            size = sum(file.size for file in await self._volumes.files(volume.name))
            found.append(
                Leftover(
                    name=volume.name,
                    job=owner.job,
                    is_ours=owner.deployment == self._deployment,
                    size_bytes=size,
                    created_at=volume.created_at,
                    call=await self._working_call(volume.name),
                )
            )
        return sorted(found, key=lambda one: one.created_at)

    async def remove(self, leftovers: Sequence[Leftover]) -> None:
        """End what works on them, then delete them."""
        for leftover in leftovers:
            if leftover.call:
                await self._functions.cancel(leftover.call)
            await self._volumes.delete(leftover.name)

    async def _working_call(self, volume: str) -> str:
        try:
            owner = Owner.of_bytes(await self._volumes.read(volume, OWNER_NAME))
        except FileNotFoundError:
            return ""
        if owner is None or not owner.call:
            return ""
        return owner.call if await self._functions.outcome(owner.call) is None else ""
