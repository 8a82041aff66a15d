"""Which cluster and which namespace: the pod's own, or the one that kubeconfig names.

Knows nothing of what is asked of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from corral.errors import UnavailableError

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def configured_namespace() -> str:
    """The namespace of this pod, or of kubeconfig's current context.

    Raises UnavailableError where no cluster is configured: a worker without one must not begin, or
    it would take jobs that it can't start.
    """
    if _is_in_cluster():
        return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
    try:
        _, context = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise _not_configured(error) from error
    return str(context["context"].get("namespace") or "default")


async def configuration_of_environment() -> Configuration:
    """How to reach the cluster. Its tokens renew themselves. Raises UnavailableError for none."""
    configuration = Configuration()
    try:
        if _is_in_cluster():
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration
            )
    except (config.ConfigException, OSError) as error:
        raise _not_configured(error) from error
    return configuration


def _is_in_cluster() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


def _not_configured(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"No Kubernetes cluster is configured: {error}",
        "Run this in a pod with a service account, or set KUBECONFIG; or use CORRAL_LAUNCHER=local.",
    )
