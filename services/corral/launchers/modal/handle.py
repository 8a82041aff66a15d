"""A run on Modal as its handle names it, and the names of what belongs to it over there.

A job has one volume for all of its attempts: what an attempt has saved is there for the next. Knows
nothing of modal's client.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from corral.errors import LaunchError
from corral.names import ID_PATTERN

HANDLE_NAME = "modal.json"
_VOLUME = re.compile(r"^corral-(?P<deployment>[0-9a-f]{8})-(?P<job>.+)$")


@dataclass(frozen=True)
class ModalHandle:
    """One call of the deployed function. `spawned_at` is seconds since the epoch."""

    app: str
    call: str
    volume: str
    attempt: int
    # Names the spawn, see corral.launchers.modal.order.
    token: str
    spawned_at: float
    # Whether the volume is to stay once the job has ended.
    keep_volume: bool
    folder: Path

    @property
    def job(self) -> str:
        """The job's id: a run's folder is <job>/a<attempt>."""
        return self.folder.parent.name

    def __str__(self) -> str:
        fields = {
            "kind": "modal",
            "app": self.app,
            "call": self.call,
            "volume": self.volume,
            "attempt": self.attempt,
            "token": self.token,
            "spawned_at": self.spawned_at,
            "keep_volume": self.keep_volume,
            "run": str(self.folder),
        }
        return json.dumps(fields)

    @classmethod
    def parse(cls, handle: str) -> ModalHandle:
        """Raises LaunchError for a string that is no handle of the Modal launcher."""
        try:
            found = json.loads(handle)
            if found["kind"] != "modal" or not found["call"]:
                raise ValueError
            return cls(
                app=str(found["app"]),
                call=str(found["call"]),
                volume=str(found["volume"]),
                attempt=int(found["attempt"]),
                token=str(found["token"]),
                spawned_at=float(found["spawned_at"]),
                keep_volume=bool(found["keep_volume"]),
                folder=Path(found["run"]),
            )
        except (ValueError, KeyError, TypeError):
            raise LaunchError(f"{handle!r:.80} is not a handle of the Modal launcher.") from None


@dataclass(frozen=True)
class JobVolume:
    """A remote volume's name, read: whose it is. Two deployments may share one Modal account."""

    deployment: str
    job: str

    def __str__(self) -> str:
        return f"corral-{self.deployment}-{self.job}"

    @classmethod
    def parse(cls, name: str) -> JobVolume | None:
        """None for a volume that is none of Corral's."""
        found = _VOLUME.match(name)
        if found is None or not ID_PATTERN.match(found["job"]):
            return None
        return cls(found["deployment"], found["job"])
