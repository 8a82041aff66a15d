"""Whether a deployment can run a job where its spec wants it, asked before the job is queued.

Knows nothing of data sets or models.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from corral.errors import BackendRefusedError, SpecError
from corral.launchers.modal.gpus import gpus_of
from corral.launchers.modal.prices import check_budget
from corral.launchers.registry import HOW_TO_GET, backends_of
from corral.settings import Settings
from corral.spec import TrainingSpec


class Backends:
    """The backends of one deployment."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environment = environment

    def check(self, spec: TrainingSpec) -> None:
        """Raises BackendRefusedError where the deployment has no such backend, SpecError where the
        spec does not fit the one that it has.
        """
        names = backends_of(self._settings, self._environment)
        backend = spec.backend or names[0]
        if backend not in names:
            raise BackendRefusedError(
                f"backend: this deployment can't run jobs on {backend!r}; it has {', '.join(names)}.",
                HOW_TO_GET[backend],
            )
        if backend == "modal":
            check_budget(spec.max_cost, gpus_of(spec))
        elif spec.modal_fields:
            raise SpecError(
                f"{spec.modal_fields[0]}: only for backend modal, and the job would run on {backend}.",
                "Add --on modal, or leave it out.",
            )
