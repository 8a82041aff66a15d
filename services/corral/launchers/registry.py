"""Which launchers a process has, by its settings. Knows nothing of runs.

The setting `launcher` names the one for runs that don't say where; `modal` is there besides wherever
there is a token, so that a laptop's jobs can go to Modal one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from corral.errors import InvalidRequestError
from corral.launchers.base import Launcher
from corral.launchers.local import LocalLauncher
from corral.launchers.routing import RoutingLauncher
from corral.settings import Settings

_TOKEN_VARIABLE = "MODAL_TOKEN_ID"  # noqa: S105 - the name of a variable


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


def _modal(settings: Settings) -> Launcher:
    try:
        from corral.launchers.modal.setup import modal_launcher
    except ImportError as error:
        raise InvalidRequestError(
            f"The Modal launcher can't be loaded: {error}.",
            "Install it with: pip install 'corral[modal]'.",
        ) from error
    return modal_launcher(settings)


_LAUNCHERS: dict[str, Callable[[Settings], Launcher]] = {
    "local": _local,
    "kubernetes": _kubernetes,
    "modal": _modal,
}

# What makes each backend available to a deployment that does not have it.
HOW_TO_GET = {
    "local": "Set CORRAL_LAUNCHER=local for trainer and worker.",
    "kubernetes": "Set CORRAL_LAUNCHER=kubernetes for trainer and worker.",
    "modal": "Set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET for trainer and worker (docs/modal.md).",
}


def backends_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of the backends that this deployment has, its own launcher first.

    Raises InvalidRequestError for a launcher that is unknown.
    """
    if settings.launcher not in _LAUNCHERS:
        raise InvalidRequestError(
            f"There is no launcher {settings.launcher!r:.80}.",
            f"CORRAL_LAUNCHER can be: {', '.join(_LAUNCHERS)}.",
        )
    has_token = bool(environment.get(_TOKEN_VARIABLE)) or settings.modal_token_file is not None
    others = ["modal"] if has_token and settings.launcher != "modal" else []
    return (settings.launcher, *others)


def launcher_for(settings: Settings, environment: Mapping[str, str] = os.environ) -> Launcher:
    """What a worker starts runs with. Raises InvalidRequestError for an unknown launcher, and what
    setting up the one that the settings name raises.
    """
    names = backends_of(settings, environment)
    # At once, not with the first job: an operator wants to know.
    own = _LAUNCHERS[settings.launcher](settings)
    if len(names) == 1:
        return own
    builders = {name: _builder(name, settings) for name in names}
    return RoutingLauncher(settings.launcher, {**builders, settings.launcher: lambda: own})


def _builder(name: str, settings: Settings) -> Callable[[], Launcher]:
    return lambda: _LAUNCHERS[name](settings)
