"""Which launcher a process uses, by the setting `launcher`. Knows nothing of runs."""

from __future__ import annotations

from collections.abc import Callable

from corral.errors import InvalidRequestError
from corral.launchers.base import Launcher
from corral.launchers.local import LocalLauncher
from corral.settings import Settings


def _local(settings: Settings) -> Launcher:
    return LocalLauncher(stop_seconds=settings.stop_seconds)


def _kubernetes(settings: Settings) -> Launcher:
    # Not everyone has the package, and nobody else needs it.
    try:
        from corral.launchers.kubernetes.setup import kubernetes_launcher
    except ImportError as error:
        raise InvalidRequestError(
            f"The Kubernetes launcher can't be loaded: {error}.",
            "Install it with: pip install 'corral[services]'.",
        ) from error
    return kubernetes_launcher(settings)


_LAUNCHERS: dict[str, Callable[[Settings], Launcher]] = {
    "local": _local,
    "kubernetes": _kubernetes,
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
