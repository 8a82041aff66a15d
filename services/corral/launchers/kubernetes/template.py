"""Reads the pod template, the operator's part of a training pod.

The file says image, tolerations, volumes, sidecars; corral.launchers.kubernetes.manifest adds what
depends on the run. Knows nothing of runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral.errors import LaunchError

CONTAINER = "training"

_HINT = "The Helm chart mounts one; CORRAL_KUBERNETES_POD_TEMPLATE names the file."


def read_template(path: Path) -> dict[str, Any]:
    """A PodTemplateSpec: `metadata` and `spec`. A Pod or a PodTemplate is taken for one, too.

    Raises LaunchError where the file can't be read, or has no container named `training`.
    """
    import yaml  # type: ignore[import-untyped]  # brings no types; comes with kubernetes

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LaunchError(
            f"The pod template {path} can't be read: {error.strerror}.", _HINT
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LaunchError(f"The pod template {path} is not YAML: {error}.", _HINT) from error
    template = content.get("template", content) if isinstance(content, dict) else None
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        raise LaunchError(f"The pod template {path} has no spec of a pod.", _HINT)
    containers = template["spec"].get("containers") or []
    names = [container.get("name") for container in containers if isinstance(container, dict)]
    if CONTAINER not in names:
        found = ", ".join(map(str, names)) or "none"
        raise LaunchError(
            f"The pod template {path} has no container named {CONTAINER!r} (it has: {found}).",
            "Name the container that is to train so; the others are taken as they are.",
        )
    return {"metadata": template.get("metadata") or {}, "spec": template["spec"]}
