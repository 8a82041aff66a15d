"""exit.json in the run's folder at home: how a run on Modal ended, and whether all of it is here.

Knows nothing of Modal: whoever followed the run says so.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from corral.launchers.base import RunStatus, Spending
from corral.launchers.supervise import EXIT_NAME, create
from corral.volume import RunFolder


def record_end(folder: Path, status: RunStatus, *, is_home: bool) -> None:
    """Write exit.json unless there is one; the folder may be gone. `is_home`: whether every
    checkpoint is here and verified, so that the remote volume may go.
    """
    spending = status.spending
    content = {
        "exit_code": status.exit_code,
        "signal": status.signal,
        "detail": status.detail,
        "infrastructure": status.infrastructure,
        "code": status.code,
        "spending": vars(spending) if spending is not None else None,
        "is_home": is_home,
    }
    with suppress(FileNotFoundError):
        create(folder / EXIT_NAME, content)


def recorded_end(folder: Path) -> RunStatus | None:
    """How the run ended, if exit.json says so."""
    try:
        found = json.loads(RunFolder(folder).exit_file.read_bytes())
    except FileNotFoundError:
        return None
    return RunStatus(
        is_running=False,
        exit_code=found["exit_code"],
        signal=found["signal"],
        detail=found["detail"],
        infrastructure=found["infrastructure"],
        code=found["code"],
        spending=Spending(**found["spending"]) if found["spending"] else None,
    )


def is_all_home(folder: Path) -> bool:
    """Whether nothing of that attempt is only on the remote volume; true where it never ran."""
    try:
        return bool(json.loads(RunFolder(folder).exit_file.read_bytes())["is_home"])
    except FileNotFoundError:
        return not folder.exists()
