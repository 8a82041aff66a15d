"""What the launcher needs of the kubernetes package: the images leave out the rest, most of its size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: n}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""

# Everything up to the first request. A call itself goes through the same ApiClient.
CONNECTS = """
import asyncio, sys
from corral.launchers.kubernetes.setup import kubernetes_launcher
from corral.launchers.kubernetes.connecting import configuration_of_environment
from corral.settings import Settings
from kubernetes.aio.client import ApiClient

async def connect():
    kubernetes_launcher(Settings())
    client = ApiClient(await configuration_of_environment())
    await client.close()

asyncio.run(connect())
print("\\n".join(name for name in sys.modules if name.startswith("kubernetes.")))
"""


def test_the_classes_that_the_images_leave_out_are_never_loaded(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(KUBECONFIG)
    loaded = subprocess.run(
        [sys.executable, "-c", CONNECTS],
        env={**os.environ, "KUBECONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "kubernetes.aio.client.api_client" in loaded
    # See deploy/Dockerfile: of these packages only __init__.py is there.
    left_out = ("client.api.", "client.models.")
    assert [name for name in loaded if any(part in name for part in left_out)] == []
