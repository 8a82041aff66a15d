"""What a Job and its pods say about a run: pure functions from the API's JSON to a RunStatus.

Knows nothing of how the objects were found.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import UTC, datetime

from corral.launchers.base import RunStatus
from corral.launchers.kubernetes.connection import Json
from corral.launchers.kubernetes.manifest import QUEUE_LABEL
from corral.launchers.kubernetes.template import CONTAINER

PREEMPTED = "Its queue gave its place to another"
VANISHED = "Its Job was deleted from the cluster, so its exit code is not known"

# A container that has one of these waits for somebody to act.
_TROUBLES = {
    "ErrImagePull": "Its image can't be pulled",
    "ImagePullBackOff": "Its image can't be pulled",
    "ErrImageNeverPull": "Its image is not on the node",
    "InvalidImageName": "Its image has no valid name",
    "CreateContainerConfigError": "Its container can't be set up",
    "CreateContainerError": "Its container can't be created",
    "RunContainerError": "Its container can't be started",
}
# Its command was never run.
_COULD_NOT_START = {"StartError", "ContainerCannotRun"}
# What a kubelet writes into the status of a pod that it ended by itself.
_NODE_REASONS = {"Evicted", "NodeLost", "Shutdown", "NodeShutdown", "Terminated", "Preempting"}
# How much later than promised a pod's end may be before its node counts as lost.
_LOST_SECONDS = 60.0


def status_of(job: Json, pods: Sequence[Json], now: datetime) -> RunStatus:
    """Whether the run goes on; if so, why its pods do not run yet, else how it ended."""
    ending = _condition(job.get("status", {}), "Complete", "Failed")
    if ending is None and not is_lost(pods, now):
        return RunStatus(is_running=True, detail=_waiting(job, pods))
    ended = exit_of_pods(pods)
    if ending is not None and ending["type"] == "Complete":
        return RunStatus(is_running=False, exit_code=0)
    is_disrupted = any(map(_is_disrupted, pods)) or "DisruptionTarget" in _text(ending)
    return RunStatus(
        is_running=False,
        exit_code=ended.exit_code,
        signal=ended.signal,
        detail=_why(ending, pods, ended),
        infrastructure=ending is None or is_disrupted,
    )


def exit_of_pods(pods: Sequence[Json]) -> RunStatus:
    """The exit of the first node that failed, where the pods still say so."""
    ends = [end for pod in _by_index(pods) if (end := _terminated(pod)) is not None]
    failed = next((end for end in ends if end.get("exitCode")), None)
    if failed is None:
        return RunStatus(is_running=False, exit_code=0 if ends else None)
    detail = _said_by_the_container(failed)
    code = int(failed["exitCode"])
    # A container runtime gives 128 + n for signal n.
    if code - 128 in set(signal.Signals):
        return RunStatus(is_running=False, signal=signal.Signals(code - 128).name, detail=detail)
    return RunStatus(is_running=False, exit_code=code, detail=detail)


def is_lost(pods: Sequence[Json], now: datetime) -> bool:
    """Whether all that keeps the Job is pods that should have ended long ago: their node is gone.

    Nobody can end them before the node comes back or is removed, and what they still write is
    refused, since a later attempt is the job's.
    """
    return bool(unended(pods)) and not still_ending(pods, now)


def still_ending(pods: Sequence[Json], now: datetime) -> bool:
    """Whether pods have not ended that one may wait for."""
    return any(not _is_overdue(pod, now) for pod in unended(pods))


def unended(pods: Sequence[Json]) -> list[Json]:
    """The pods in which something may still run."""
    ends = ("Succeeded", "Failed")
    return [pod for pod in pods if pod.get("status", {}).get("phase") not in ends]


def is_training(pods: Sequence[Json]) -> bool:
    """Whether a pod runs that nobody has told to end yet."""
    return any(
        pod.get("status", {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        for pod in pods
    )


def is_suspended(job: Json, pods: Sequence[Json]) -> bool:
    """Whether it waits in a queue, and nothing of it runs."""
    return bool(job.get("spec", {}).get("suspend")) and not unended(pods)


def _is_overdue(pod: Json, now: datetime) -> bool:
    # The API server writes down when a pod that is deleted has to have ended.
    end = pod["metadata"].get("deletionTimestamp")
    if not end:
        return False
    due = datetime.fromisoformat(str(end)).astimezone(UTC)
    return (now - due).total_seconds() > _LOST_SECONDS


def _waiting(job: Json, pods: Sequence[Json]) -> str:
    """Why the run has not begun, as a sentence; empty where it has, or soon will."""
    if job.get("spec", {}).get("suspend"):
        queue = job["metadata"].get("labels", {}).get(QUEUE_LABEL, "")
        return f"It waits for its turn in the queue {queue}." if queue else "Its Job is suspended."
    if not pods:
        return _no_pods(job)
    for pod in _by_index(pods):
        if pod.get("status", {}).get("phase") == "Pending" and (why := _pending(pod)):
            return why
    return ""


def _no_pods(job: Json) -> str:
    status = job.get("status", {})
    # The Job's controller has looked at it, and got no pod.
    if status.get("startTime") and not status.get("active") and not status.get("terminating"):
        name = job["metadata"]["name"]
        return (
            "The cluster has not created its pod, often because of a quota or a policy; "
            f"`kubectl describe job {name}` says why."
        )
    return ""


def _pending(pod: Json) -> str:
    status = pod["status"]
    scheduled = _find(status.get("conditions"), "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        message = str(scheduled.get("message", "")).rstrip(".")
        return f"No node can take it yet: {message}." if message else "No node can take it yet."
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in statuses:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _TROUBLES:
            message = str(waiting.get("message", "")).rstrip(".")
            return f"{_TROUBLES[waiting['reason']]}: {message or waiting['reason']}."
    return ""


def _why(ending: Json | None, pods: Sequence[Json], ended: RunStatus) -> str:
    if ending is None:
        return "The node that it ran on is lost"
    for pod in pods:
        if _is_disrupted(pod):
            condition = _find(pod["status"].get("conditions"), "DisruptionTarget") or {}
            said = condition.get("message") or pod["status"].get("message") or "its pod was evicted"
            return f"The cluster took its place away: {str(said).rstrip('.')}"
    if ended.detail:
        return ended.detail
    # The two reasons that say no more than "a pod failed".
    if ending.get("reason") in ("BackoffLimitExceeded", "PodFailurePolicy"):
        return ""
    return str(ending.get("message") or ending.get("reason") or "").rstrip(".")


def _is_disrupted(pod: Json) -> bool:
    status = pod.get("status", {})
    condition = _find(status.get("conditions"), "DisruptionTarget")
    return status.get("reason") in _NODE_REASONS or (
        condition is not None and condition.get("status") == "True"
    )


def _terminated(pod: Json) -> Json | None:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if container.get("name") == CONTAINER:
            found: Json | None = container.get("state", {}).get("terminated")
            return found
    return None


def first_failed(pods: Sequence[Json]) -> str:
    """The name of the first node's pod that failed, or empty."""
    failed = (pod for pod in _by_index(pods) if pod.get("status", {}).get("phase") == "Failed")
    return next((str(pod["metadata"]["name"]) for pod in failed), "")


def _said_by_the_container(terminated: Json) -> str:
    reason = terminated.get("reason")
    if reason == "OOMKilled":
        return "It had no memory left"
    if reason in _COULD_NOT_START:
        return f"Its container can't be started: {terminated.get('message') or reason}".rstrip(".")
    return ""


def _condition(status: Json, *types: str) -> Json | None:
    found = (_find(status.get("conditions"), one) for one in types)
    return next((one for one in found if one and one.get("status") == "True"), None)


def _find(conditions: Sequence[Json] | None, kind: str) -> Json | None:
    return next((one for one in conditions or () if one.get("type") == kind), None)


def _text(condition: Json | None) -> str:
    return str((condition or {}).get("message", ""))


def _by_index(pods: Sequence[Json]) -> list[Json]:
    """The pods in the order of their nodes' ranks."""
    key = "batch.kubernetes.io/job-completion-index"
    return sorted(pods, key=lambda pod: int(pod["metadata"].get("annotations", {}).get(key, 0)))
