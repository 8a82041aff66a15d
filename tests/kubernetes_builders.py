"""Launchers on a KubernetesDouble, and Jobs made through them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes.aio.client import Configuration
from tests.conformance import stand_in_run
from tests.conformance.launcher import PATIENCE, described
from tests.kubernetes_double import NAMESPACE, KubernetesDouble

from corral.launchers.kubernetes.api import Cluster
from corral.launchers.kubernetes.launcher import GONE_SECONDS, KubernetesLauncher
from corral.launchers.kubernetes.manifest import JobOptions
from corral.run import TrainingRun

TEMPLATE = "spec: {containers: [{name: training, image: corral-train}]}\n"


def stand_in(run_file: Path, run: TrainingRun) -> list[str]:
    return [sys.executable, stand_in_run.__file__, str(run_file)]


def job_options(**given: Any) -> JobOptions:
    defaults = {
        "namespace": NAMESPACE,
        "service": "corral-training",
        "gpus_per_process": 0,
        "queue": "",
        "deadline_seconds": 0,
        "stop_seconds": PATIENCE,
    }
    return JobOptions(**(defaults | given))


class Launchers:
    """Builds launchers, each with connections of its own, and closes them at the end."""

    def __init__(self, double: KubernetesDouble, folder: Path) -> None:
        self._double = double
        self._template = folder / "train-pod.yaml"
        self._template.write_text(TEMPLATE)
        self._built: list[KubernetesLauncher] = []

    async def __aenter__(self) -> Launchers:
        return self

    async def __aexit__(self, *_: object) -> None:
        for launcher in self._built:
            await launcher.close()

    def new(
        self,
        *,
        patience: float = PATIENCE,
        command: Callable[[Path, TrainingRun], list[str]] = stand_in,
        gone_seconds: float = GONE_SECONDS,
        **options: Any,
    ) -> KubernetesLauncher:
        cluster = Cluster(self._configuration, NAMESPACE, patience)
        launcher = KubernetesLauncher(
            cluster, job_options(**options), self._template, command, gone_seconds
        )
        self._built.append(launcher)
        return launcher

    async def _configuration(self) -> Configuration:
        return Configuration(host=self._double.url)


class Jobs:
    """Starts runs whose pods nobody runs; a test says what becomes of them."""

    def __init__(self, launcher: KubernetesLauncher, root: Path) -> None:
        self.launcher = launcher
        self._root = root

    def file(self, job: str = "job-1", attempt: int = 1) -> Path:
        folder = self._root / job / f"a{attempt}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "run.json"

    async def start(self, job: str = "job-1", attempt: int = 1, **spec: Any) -> str:
        run_file = self.file(job, attempt)
        return await self.launcher.start(run_file, described(run_file, **spec))
