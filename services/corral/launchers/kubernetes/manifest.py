"""The Job of one attempt, made from the operator's pod template and the run: a pure function.

The template decides where and with what a pod runs; this patches only name, command, resources,
processes and labels. Knows nothing of the API.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.launchers.kubernetes.template import CONTAINER
from corral.launchers.torchrun import ALONE, ENVIRONMENT, torchrun_command
from corral.run import EXIT_REFUSED, EXIT_STOPPED, TrainingRun

JOB_LABEL = "corral.dev/job"
ATTEMPT_LABEL = "corral.dev/attempt"
HASH_ANNOTATION = "corral.dev/run-hash"
# What the Job controller writes on every pod.
POD_JOB_LABEL = "batch.kubernetes.io/job-name"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
# Of every Job and pod that this launcher makes.
OUR_LABELS = {"app.kubernetes.io/name": "corral", "app.kubernetes.io/component": "training"}

# torch's own default; a pod has its ports to itself.
_PORT = 29500
# From the first node's pod to the last one's: images are pulled and GPUs become free meanwhile.
_JOIN_SECONDS = 3600
# After its grace period the supervisor still has to kill what is left and write exit.json.
_EXIT_SECONDS = 10
# A host name has at most 63 characters, and an indexed pod's is the Job's name and "-1023".
_LONGEST_NAME = 63 - len("-1023")
_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class JobOptions:
    """What an operator decides about all runs. Durations are seconds; 0 is no deadline; `stop_seconds`
    is for a run that does not say itself how long it may take to end.
    """

    namespace: str
    service: str
    gpus_per_process: int
    queue: str
    deadline_seconds: int
    stop_seconds: float


def job_name(job_id: str, attempt: int) -> str:
    """`corral-<job>-a<attempt>`; with a hash in place of an id's end that would make it too long."""
    name = f"corral-{job_id}-a{attempt}"
    if len(name) <= _LONGEST_NAME:
        return name
    suffix = f"-{_short_hash(job_id)}-a{attempt}"
    return f"corral-{job_id}"[: _LONGEST_NAME - len(suffix)].rstrip("-") + suffix


def label_of(job_id: str) -> str:
    """The job's id as a label's value. Ids may end with "-", which a label may not."""
    return (
        job_id if _LABEL_VALUE.match(job_id) else f"{job_id[:54].rstrip('-')}-{_short_hash(job_id)}"
    )


def training_command(run_file: Path, run: TrainingRun, options: JobOptions) -> list[str]:
    """torchrun, on one node or on several.

    Several meet statically, each with the rank that its pod's index gives it: rank 0, which writes
    the events, is in the first pod then, and no node has to find out from DNS, which learns of a
    pod late, whether it is the one that others wait for (as c10d does). Until the first pod's name
    is known, the others' TCPStore looks it up again.
    """
    name = job_name(run.job_id, run.attempt)
    several = (
        *("--rdzv-backend", "static", "--rdzv-endpoint", f"{name}-0.{options.service}:{_PORT}"),
        *("--rdzv-conf", f"timeout={_JOIN_SECONDS}", "--node-rank", "$(JOB_COMPLETION_INDEX)"),
    )
    return torchrun_command(
        run_file,
        name=name,
        nodes=run.spec.nodes,
        processes_per_node=run.spec.processes_per_node,
        meeting=several if run.spec.nodes > 1 else ALONE,
    )


def job_manifest(
    template: dict[str, Any],
    run_file: Path,
    run: TrainingRun,
    options: JobOptions,
    command: list[str],
) -> dict[str, Any]:
    """A batch/v1 Job with the hash of everything else in it as an annotation."""
    labels = {
        **_instance(template),
        **OUR_LABELS,
        JOB_LABEL: label_of(run.job_id),
        ATTEMPT_LABEL: str(run.attempt),
    }
    manifest: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run.job_id, run.attempt),
            "namespace": options.namespace,
            "labels": {**labels, **({QUEUE_LABEL: options.queue} if options.queue else {})},
        },
        "spec": {
            **_nodes(run.spec.nodes),
            # The queue alone tries again, and only once nothing of the attempt is left.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _POD_FAILURE_POLICY,
            **(
                {"activeDeadlineSeconds": options.deadline_seconds}
                if options.deadline_seconds
                else {}
            ),
            # Kueue starts it when there is room for all of its pods.
            **({"suspend": True} if options.queue else {}),
            "template": _pod(template, labels, run_file, run, options, command),
        },
    }
    asked = json.dumps(manifest, sort_keys=True).encode()
    manifest["metadata"]["annotations"] = {HASH_ANNOTATION: hashlib.sha256(asked).hexdigest()}
    return manifest


def pod_grace(job: dict[str, Any]) -> float:
    """Seconds that a Job's pods may take to end once they are deleted, by their own spec."""
    grace: int = job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    return grace - _EXIT_SECONDS


# Every rule fails the Job, which backoffLimit 0 would do too. They make its condition say which it
# was, and "DisruptionTarget" is how an eviction is told from a crash.
_POD_FAILURE_POLICY = {
    "rules": [
        {
            "action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": CONTAINER,
                "operator": "In",
                "values": [EXIT_REFUSED, EXIT_STOPPED],
            },
        },
    ]
}


def _nodes(nodes: int) -> dict[str, Any]:
    if nodes == 1:
        return {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed"}
    return {"completions": nodes, "parallelism": nodes, "completionMode": "Indexed"}


def _pod(
    template: dict[str, Any],
    labels: dict[str, str],
    run_file: Path,
    run: TrainingRun,
    options: JobOptions,
    command: list[str],
) -> dict[str, Any]:
    pod = copy.deepcopy(template)
    pod["metadata"] = {
        **({"annotations": notes} if (notes := pod["metadata"].get("annotations")) else {}),
        "labels": {**(pod["metadata"].get("labels") or {}), **labels},
    }
    pod["spec"] |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(_grace(run, options)) + _EXIT_SECONDS,
        # Training needs no cluster.
        "automountServiceAccountToken": False,
        **({"subdomain": options.service} if run.spec.nodes > 1 else {}),
    }
    container = next(one for one in pod["spec"]["containers"] if one.get("name") == CONTAINER)
    container["command"] = ["python", "-m", "corral.launchers.in_pod"]
    container["args"] = _arguments(run_file, run, options, command)
    container["env"] = _environment(container.get("env") or [])
    if options.gpus_per_process:
        _ask_for_gpus(container, options.gpus_per_process * run.spec.processes_per_node)
    return pod


def _arguments(
    run_file: Path, run: TrainingRun, options: JobOptions, command: list[str]
) -> list[str]:
    rank = ("--rank", "$(JOB_COMPLETION_INDEX)") if run.spec.nodes > 1 else ()
    return [
        *(str(run_file.parent), *rank, "--processes", str(run.spec.processes_per_node)),
        *("--grace", str(_grace(run, options)), "--", *command),
    ]


def _grace(run: TrainingRun, options: JobOptions) -> float:
    return options.stop_seconds if run.stop_seconds is None else run.stop_seconds


def _environment(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the local launcher sets, too; the template's own values win."""
    names = {variable.get("name") for variable in given}
    added = [
        {"name": name, "value": value} for name, value in ENVIRONMENT.items() if name not in names
    ]
    return [*given, *added]


def _ask_for_gpus(container: dict[str, Any], gpus: int) -> None:
    resources = container.setdefault("resources", {})
    for kind in ("limits", "requests"):
        resources[kind] = {**(resources.get(kind) or {}), "nvidia.com/gpu": str(gpus)}


def _instance(template: dict[str, Any]) -> dict[str, str]:
    """Which release of the chart it belongs to, if the template says."""
    label = "app.kubernetes.io/instance"
    value = (template["metadata"].get("labels") or {}).get(label)
    return {label: str(value)} if value else {}


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
