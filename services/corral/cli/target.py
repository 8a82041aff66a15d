"""Target: which server a command talks to.

Knows nothing of where it was named; that is corral.cli.profiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """A trainer's address ("host:port" or "unix:/path"), and the key to show it."""

    server: str
    key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.server
