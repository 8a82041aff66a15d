"""Which launcher a process uses, by the setting `launcher`. Knows nothing of runs."""

from __future__ import annotations

from collections.abc import Callable

from corral.errors import InvalidRequestError
from corral.launchers.base import Launcher
from corral.launchers.local import LocalLauncher
from corral.settings import Settings

_LAUNCHERS: dict[str, Callable[[Settings], Launcher]] = {
    "local": lambda settings: LocalLauncher(stop_seconds=settings.stop_seconds),
}


def launcher_for(settings: Settings) -> Launcher:
    """The launcher that the settings name. Raises InvalidRequestError for an unknown one."""
    build = _LAUNCHERS.get(settings.launcher)
    if build is None:
        raise InvalidRequestError(
            f"There is no launcher {settings.launcher!r:.80}.",
            f"CORRAL_LAUNCHER can be: {', '.join(_LAUNCHERS)}.",
        )
    return build(settings)
