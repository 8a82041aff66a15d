"""A KubernetesLauncher from the settings of the process. Knows nothing of runs."""

from __future__ import annotations

from corral.launchers.kubernetes.api import Cluster
from corral.launchers.kubernetes.connecting import (
    configuration_of_environment,
    configured_namespace,
)
from corral.launchers.kubernetes.launcher import KubernetesLauncher
from corral.launchers.kubernetes.manifest import JobOptions
from corral.settings import Settings


def kubernetes_launcher(settings: Settings) -> KubernetesLauncher:
    """The launcher for the cluster that this process runs in, or that kubeconfig names.

    Raises UnavailableError where there is neither. Nothing is asked of the cluster yet.
    """
    configured = configured_namespace()
    namespace = settings.kubernetes_namespace or configured
    options = JobOptions(
        namespace=namespace,
        service=settings.kubernetes_service,
        gpus_per_process=settings.kubernetes_gpus_per_process,
        queue=settings.kubernetes_queue,
        deadline_seconds=settings.kubernetes_deadline_seconds,
        stop_seconds=settings.stop_seconds,
    )
    cluster = Cluster(configuration_of_environment, namespace)
    return KubernetesLauncher(cluster, options, settings.kubernetes_pod_template)
