"""KubernetesLauncher: each attempt a Job, and one look at the cluster for all of them.

Redis, not a Job's presence, says what becomes of a job: a Job that vanished is a run that ended.
What the run's first process wrote into its folder (exit.json) outlives the Job. Knows nothing of
the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from corral.errors import LaunchError
from corral.launchers.base import JobIsOver, RunStatus
from corral.launchers.kubernetes.api import JOBS, PODS, Cluster
from corral.launchers.kubernetes.connection import Json
from corral.launchers.kubernetes.handle import JobHandle
from corral.launchers.kubernetes.manifest import (
    ATTEMPT_LABEL,
    HASH_ANNOTATION,
    JOB_LABEL,
    OUR_LABELS,
    POD_JOB_LABEL,
    JobOptions,
    job_manifest,
    job_name,
    label_of,
    pod_grace,
    training_command,
)
from corral.launchers.kubernetes.mirror import Mirror
from corral.launchers.kubernetes.reading import (
    PREEMPTED,
    VANISHED,
    first_failed,
    is_lost,
    is_suspended,
    is_training,
    status_of,
    still_ending,
    unended,
)
from corral.launchers.kubernetes.template import CONTAINER, read_template
from corral.launchers.stop_file import ask_to_stop
from corral.run import TrainingRun

# A kubelet that is busy, and what kills all that a pod has left.
GONE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = (0.05, 1.0)
_LAST_LINES = 200

_log = structlog.stdlib.get_logger(__name__)

# From a run file and its run to the command line that trains on one node.
CommandBuilder = Callable[[Path, TrainingRun], list[str]]


class KubernetesLauncher:
    """The Launcher protocol with Jobs of one namespace.

    `start` ends what earlier attempts at the same job have left in the cluster. `stop` on a run that
    has ended deletes its Job, which nothing else does: Jobs have no time to live, so that their end
    can be read however late. `poll` is answered from a copy that one watch keeps for all runs; an
    API server that is away for a while leaves it as it was.

    A pod's grace period is that of its run's start. `stop` with a longer one asks the pods to end by
    a file in the run's folder, and deletes the Job once they have.
    """

    def __init__(
        self,
        cluster: Cluster,
        options: JobOptions,
        template: Path,
        command_builder: CommandBuilder | None = None,
        gone_seconds: float = GONE_SECONDS,
    ) -> None:
        """`gone_seconds`: how much longer than its grace period a run may take to be gone before
        `stop` raises LaunchError.
        """
        self._cluster = cluster
        self._options = options
        self._template = template
        self._gone_seconds = gone_seconds
        self._command_builder = command_builder or (
            lambda run_file, run: training_command(run_file, run, options)
        )
        self._jobs = Mirror(cluster, JOBS, OUR_LABELS, _name)
        self._pods = Mirror(cluster, PODS, OUR_LABELS, _job_of_pod)

    async def start(self, run_file: Path, run: TrainingRun) -> str:
        handle = self._handle(run_file, run)
        if run.attempt > 1:
            await self._end_earlier(run, handle.folder)
        # Its Job may be deleted already; it must not run again.
        if await asyncio.to_thread(handle.recorded_end) is None:
            await self._create(await asyncio.to_thread(self._manifest, run_file, run))
        return str(handle)

    async def poll(self, handle: str) -> RunStatus:
        job = JobHandle.parse(handle)
        found = await self._find(job.name)
        status = await self._status(job, found)
        if status.is_running:
            return status
        # It tells a signal from an exit code, and is there when the pods are not.
        end = await asyncio.to_thread(job.recorded_end)
        if end is None:
            await self._keep_last_words(job)
        if end is None or found is None:
            return end or status
        return RunStatus(False, end.exit_code, end.signal, status.detail, status.infrastructure)

    async def stop(self, handle: str, grace_seconds: float) -> None:
        job = JobHandle.parse(handle)
        found = await self._cluster.get(JOBS, job.name)
        if found is None:
            return
        await asyncio.to_thread(ask_to_stop, job.folder, grace_seconds)
        if grace_seconds > pod_grace(found):
            await self._until_saved(job.name, grace_seconds)
        await self._cluster.delete(JOBS, job.name)
        await self._until_gone(job.name, grace_seconds + self._gone_seconds)

    def can_take_over(self, handle: str) -> bool:
        """A run is ended with its worker, and goes on from its checkpoint."""
        return False

    async def reap(self, is_over: JobIsOver) -> None:
        """Nothing: the worker deletes a Job once its end is recorded, or with the next attempt."""

    async def close(self) -> None:
        await asyncio.gather(self._jobs.close(), self._pods.close())
        await self._cluster.close()

    async def _status(self, job: JobHandle, found: Json | None) -> RunStatus:
        """What the cluster says."""
        now = datetime.now(UTC)
        pods = await self._pods.of(job.name)
        if found is None:
            # Whoever deleted it may have left its pods to end by themselves.
            left = still_ending(pods, now)
            return RunStatus(left, detail="" if left else VANISHED, infrastructure=not left)
        status = status_of(found, pods, now)
        if is_suspended(found, pods) and await asyncio.to_thread(job.has_begun):
            # It would begin again from the start of this attempt; the queue's next one goes on.
            return RunStatus(is_running=False, detail=PREEMPTED, infrastructure=True)
        if not status.is_running and status.exit_code != 0 and unended(pods):
            # The Job's end came before its pods', which say why, since each kind has its own watch.
            pods = await self._cluster.find(PODS, {POD_JOB_LABEL: job.name})
            status = status_of(found, pods, now)
        return status

    async def _keep_last_words(self, job: JobHandle) -> None:
        """What a pod printed that never came to open the run's log, e.g. for a broken image."""
        failed = first_failed(await self._pods.of(job.name))
        if failed and not await asyncio.to_thread(job.has_log):
            said = await self._cluster.last_lines(failed, CONTAINER, _LAST_LINES)
            await asyncio.to_thread(job.keep_last_words, said)

    def _handle(self, run_file: Path, run: TrainingRun) -> JobHandle:
        name = job_name(run.job_id, run.attempt)
        return JobHandle(self._options.namespace, name, run_file.absolute().parent)

    def _manifest(self, run_file: Path, run: TrainingRun) -> Json:
        run_file = run_file.absolute()
        command = self._command_builder(run_file, run)
        template = read_template(self._template)
        return job_manifest(template, run_file, run, self._options, command)

    async def _create(self, manifest: Json) -> None:
        """Create the Job, or find that it is there already, from a call whose answer was lost."""
        name = manifest["metadata"]["name"]
        created = await self._cluster.create(JOBS, manifest)
        if created is None:
            created = await self._cluster.get(JOBS, name)
            # None: it was deleted in between. The run was there, and has ended.
            if created is not None and not _is_same(created, manifest):
                raise LaunchError(
                    f"There is a Job {name} in namespace {self._options.namespace} that was not "
                    "made for this run.",
                    f"Look at it with `kubectl describe job {name}`, and delete it if it may go.",
                )
        if created is not None:
            self._jobs.put(created)

    async def _end_earlier(self, run: TrainingRun, folder: Path) -> None:
        # A worker may die after it has created a Job and before it has recorded the handle.
        found = await self._cluster.find(JOBS, {**OUR_LABELS, JOB_LABEL: label_of(run.job_id)})
        for job in found:
            attempt = str(job["metadata"]["labels"].get(ATTEMPT_LABEL, ""))
            if attempt.isdecimal() and int(attempt) < run.attempt:
                earlier = folder.parent / f"a{attempt}"
                handle = JobHandle(self._options.namespace, _name(job), earlier)
                _log.info("ending an earlier attempt", job=run.job_id, attempt=attempt)
                await self.stop(str(handle), 0)

    async def _find(self, name: str) -> Json | None:
        """The Job as the mirror shows it. That it is not there is believed only of the cluster."""
        shown = await self._jobs.of(name)
        if shown:
            return shown[0]
        found = await self._cluster.get(JOBS, name)
        if found is not None:
            self._jobs.put(found)
        return found

    async def _until_saved(self, name: str, seconds: float) -> None:
        """Let pods end by themselves that may take longer than a pod which is deleted: the wish to
        stop that lies in the run's folder reaches them, too.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        wait, longest = _LOOK_AGAIN_SECONDS
        while loop.time() < deadline and is_training(await self._pods.of(name)):
            await asyncio.sleep(wait)
            wait = min(longest, wait * 1.5)

    async def _until_gone(self, name: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        wait, longest = _LOOK_AGAIN_SECONDS
        while True:
            is_there = await self._cluster.get(JOBS, name) is not None
            pods, now = await self._pods.of(name), datetime.now(UTC)
            if not is_there and not still_ending(pods, now):
                return
            if is_lost(pods, now):
                _log.warning("a pod's node is lost; the pod is left to the cluster", job=name)
                return
            if loop.time() > deadline:
                raise LaunchError(
                    f"The pods of Job {name} do not end.",
                    f"`kubectl get pods -l batch.kubernetes.io/job-name={name}` shows where they "
                    "are; a node that does not answer keeps its pods.",
                )
            await asyncio.sleep(wait)
            wait = min(longest, wait * 1.5)


def _is_same(found: Json, asked: Json) -> bool:
    theirs, ours = found["metadata"], asked["metadata"]
    labels = theirs.get("labels") or {}
    annotations = theirs.get("annotations") or {}
    return annotations.get(HASH_ANNOTATION) == ours["annotations"][HASH_ANNOTATION] and all(
        labels.get(name) == value for name, value in ours["labels"].items()
    )


def _name(found: Json) -> str:
    return str(found["metadata"]["name"])


def _job_of_pod(pod: Json) -> str:
    return str(pod["metadata"].get("labels", {}).get(POD_JOB_LABEL, ""))
