"""The chart as helm renders it, and what a test asks of manifests. No cluster is needed, only helm:
without it, a test that asks for it is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "corral"
EXAMPLES = tuple(sorted(path.stem for path in (CHART / "examples").glob("*.yaml")))
# The defaults too.
VARIANTS = ("", *EXAMPLES)
RELEASE = "corral"

Manifest = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("helm") is None:
        pytest.skip("helm is not on the PATH")
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


def flags(example: str = "", *settings: str) -> list[str]:
    """Helm's flags for an example and for settings like "worker.mode=local"; a value is JSON or, as
    it mostly is, plain text.
    """
    values = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
    for setting in settings:
        kind = "--set-json" if setting.partition("=")[2][:1] in ("[", "{") else "--set"
        values += [kind, setting]
    return values


@cache
def render(example: str = "", *settings: str) -> list[Manifest]:
    """All manifests, hooks included. The caller leaves them as they are."""
    done = helm("template", RELEASE, str(CHART), "--namespace", "ns", *flags(example, *settings))
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refusal(*settings: str, example: str = "") -> str:
    """What helm says when it refuses the values."""
    done = helm("template", RELEASE, str(CHART), *flags(example, *settings))
    assert done.returncode != 0, f"{settings} were accepted"
    return done.stderr


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def train_pod(manifests: list[Manifest]) -> Manifest:
    """The template that the launcher makes training pods from."""
    config = of_kind(manifests, "ConfigMap")[f"{RELEASE}-training"]
    template: Manifest = yaml.safe_load(config["data"]["train-pod.yaml"])
    return template


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Component and pod template of everything that runs, training pods included."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            yield component(manifest), manifest["spec"]["template"]
        elif manifest["kind"] == "Pod":
            yield component(manifest), manifest
        elif "train-pod.yaml" in manifest.get("data", {}):
            yield "training", train_pod(manifests)


def pod_template(manifests: list[Manifest], name: str) -> Manifest:
    return dict(pod_templates(manifests))[name]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Component and container, of all pods."""
    for name, template in pod_templates(manifests):
        for container in (
            *template["spec"].get("initContainers", ()),
            *template["spec"]["containers"],
        ):
            yield name, container


def environment(container: Manifest) -> dict[str, Any]:
    """Values by name; what comes from elsewhere as its valueFrom."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def component(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
    return name
