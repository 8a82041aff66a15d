"""Which launcher the settings name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.errors import InvalidRequestError, Kind
from corral.launchers.local import LocalLauncher
from corral.launchers.registry import launcher_for
from corral.settings import Settings


def test_runs_run_on_this_machine_by_default() -> None:
    assert isinstance(launcher_for(Settings(), {}), LocalLauncher)


def test_an_unknown_launcher_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="'cloud'") as caught:
        launcher_for(Settings(launcher="cloud"))
    assert "local" in caught.value.hint


def test_runs_can_run_in_the_cluster_that_this_process_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("kubernetes")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    from corral.launchers.kubernetes.launcher import KubernetesLauncher

    settings = Settings(launcher="kubernetes", kubernetes_namespace="training")
    assert isinstance(launcher_for(settings), KubernetesLauncher)


def test_a_worker_without_a_cluster_does_not_begin(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(tmp_path / "nowhere"),
        "CORRAL_LAUNCHER": "kubernetes",
    }
    worker = [sys.executable, "-m", "corral.trainer.worker"]
    found = subprocess.run(worker, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == Kind.UNAVAILABLE.value.exit_code
    assert "No Kubernetes cluster is configured" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_laptop_needs_no_package_for_clusters() -> None:
    code = (
        "import sys\n"
        "sys.modules['kubernetes'] = None\n"
        "from corral.errors import InvalidRequestError\n"
        "from corral.launchers.registry import launcher_for\n"
        "from corral.settings import Settings\n"
        "launcher_for(Settings())\n"
        "try:\n"
        "    launcher_for(Settings(launcher='kubernetes'))\n"
        "except InvalidRequestError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "corral[services]" in found.stdout
