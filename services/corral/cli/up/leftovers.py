"""Ends training runs that outlived their worker, so that a stopped Corral leaves no process.

A worker stops its own run. One that was killed could not, and the run is under a supervisor that
outlives it on purpose. Knows nothing of jobs: they go on from their last checkpoint next time.
"""

from __future__ import annotations

from pathlib import Path

from corral.launchers.local import LocalLauncher
from corral.launchers.supervise import HANDLE_NAME


async def end_runs(data: Path) -> int:
    """Kill every local run of this data folder that still goes; returns how many there were."""
    launcher = LocalLauncher()
    ended = 0
    for handle_file in (data / "runs").glob(f"*/*/{HANDLE_NAME}"):
        handle = handle_file.read_text()
        if (await launcher.poll(handle)).is_running:
            await launcher.stop(handle, grace_seconds=0)
            ended += 1
    return ended
