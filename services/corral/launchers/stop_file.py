"""stop.json in a run's folder: that the run is to end, and how long it may take to save before.

Whoever stops a run writes it; the process that stands over the run reads it again and again, so that
a period can be made longer or shorter after the run has begun. Standard library only. Knows nothing
of processes or of the cluster.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path

STOP_NAME = "stop.json"


def ask_to_stop(run: Path, grace_seconds: float) -> None:
    """Write it, whole, over one that was there before. The folder may be gone."""
    temporary = run / f".{STOP_NAME}.{secrets.token_hex(4)}"
    with suppress(FileNotFoundError):
        temporary.write_text(json.dumps({"grace_seconds": grace_seconds}))
        temporary.replace(run / STOP_NAME)


def is_asked_to_stop(run: Path) -> bool:
    """Whether somebody wants the run to end."""
    return (run / STOP_NAME).exists()


def grace_of(run: Path, otherwise: float) -> float:
    """Seconds that whoever stops the run gives it; `otherwise` where nobody has said."""
    try:
        return float(json.loads((run / STOP_NAME).read_bytes())["grace_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return otherwise
