"""Everything that can be said of the chart without a cluster, for the defaults and every example:
helm lint, the API's own schemas for the oldest and the newest Kubernetes, and checkov.

`make lint-chart` runs it, in an environment of its own (kubernetes-validate and checkov), with helm
on the PATH. Knows nothing of Corral: what its manifests must say is in tests/chart.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "corral"
# The oldest is Chart.yaml's kubeVersion; the newest is the one that the pinned schemas end with.
VERSIONS = ("1.31", "1.37")
# Kinds of other projects, of which Kubernetes has no schema.
FOREIGN_KINDS = ("GRPCRoute", "HTTPRoute", "ServiceMonitor")


def main() -> int:
    """Returns the exit code."""
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in variants():
            helm("lint", "--strict", "--quiet", str(CHART), *flags)
            rendered = helm("template", "corral", str(CHART), "--namespace", "corral", *flags)
            Path(scratch, f"{name}.yaml").write_text(rendered, encoding="utf-8")
            problems += [f"{name}: {problem}" for problem in invalid(rendered)]
        problems += checkov(Path(scratch))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def variants() -> Iterator[tuple[str, list[str]]]:
    """Name and helm's flags: the defaults, and every example."""
    yield "defaults", []
    for path in sorted((CHART / "examples").glob("*.yaml")):
        yield path.stem, ["--values", str(path)]


def helm(*arguments: str) -> str:
    """Its standard output; what it complains about goes to ours, and ends this."""
    done = subprocess.run(["helm", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SystemExit(f"helm {' '.join(arguments)} failed")
    return done.stdout


def invalid(rendered: str) -> Iterator[str]:
    """What the schemas refuse, unknown fields included."""
    for manifest in manifests(rendered):
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                what = f"{manifest['kind']} {manifest['metadata']['name']}"
                yield f"Kubernetes {version}: {what}: {where}: {error.message}"


def manifests(rendered: str) -> Iterator[dict[str, Any]]:
    """Those that Kubernetes knows, and the training pod out of its ConfigMap."""
    for manifest in filter(None, yaml.safe_load_all(rendered)):
        if manifest["kind"] in FOREIGN_KINDS:
            continue
        yield manifest
        if template := manifest.get("data", {}).get("train-pod.yaml"):
            pod = yaml.safe_load(template)
            head = {"apiVersion": "v1", "kind": "Pod"}
            yield {**head, **pod, "metadata": {"name": "train-pod.yaml", **pod["metadata"]}}


def checkov(folder: Path) -> list[str]:
    """What checkov finds, but for what deploy/checkov.yaml skips with a reason."""
    command = [str(Path(sys.executable).with_name("checkov")), "--directory", str(folder)]
    command += ["--config-file", str(ROOT / "deploy" / "checkov.yaml")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return [done.stdout] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
