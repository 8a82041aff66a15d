"""A run in the cluster as its handle names it: its Job, and its folder on the volume.

What the run's first process wrote into the folder outlives the Job. Knows nothing of the API.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corral.errors import LaunchError
from corral.launchers.base import RunStatus
from corral.launchers.in_pod import POD_NAME
from corral.volume import RunFolder


@dataclass(frozen=True)
class JobHandle:
    """A Job's name and the folder of its run. As a string it is the same for every starter."""

    namespace: str
    name: str
    folder: Path

    def __str__(self) -> str:
        fields = {
            "kind": "kubernetes",
            "namespace": self.namespace,
            "job": self.name,
            "run": str(self.folder),
        }
        return json.dumps(fields)

    @classmethod
    def parse(cls, handle: str) -> JobHandle:
        """Raises LaunchError for a string that is no handle of the Kubernetes launcher."""
        try:
            found = json.loads(handle)
            if found["kind"] != "kubernetes" or not found["job"]:
                raise ValueError
            return cls(str(found["namespace"]), str(found["job"]), Path(found["run"]))
        except (ValueError, KeyError, TypeError):
            raise LaunchError(
                f"{handle!r:.80} is not a handle of the Kubernetes launcher."
            ) from None

    def has_begun(self) -> bool:
        """Whether a pod has taken it up."""
        return (self.folder / POD_NAME).exists()

    def has_log(self) -> bool:
        """Whether its first process lived to open the run's log."""
        return RunFolder(self.folder).log.exists()

    def keep_last_words(self, text: str) -> None:
        """Make what a pod printed the run's log. The folder may be gone."""
        with suppress(FileNotFoundError):
            RunFolder(self.folder).log.write_text(text, encoding="utf-8")

    def recorded_end(self) -> RunStatus | None:
        """How its first process saw it end, if that lived to write it down."""
        try:
            found = json.loads(RunFolder(self.folder).exit_file.read_bytes())
        except FileNotFoundError:
            return None
        return RunStatus(is_running=False, exit_code=found["exit_code"], signal=found["signal"])
