"""KubernetesLauncher and what an API server can do to it: dropped watches, 410, stale lists, vanished
Jobs, slow answers, refusals. No pod runs here; each test says what the cluster shows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from tests.conditions import until
from tests.conformance.launcher import PATIENCE, ended
from tests.kubernetes_builders import Jobs, Launchers
from tests.kubernetes_double import JOBS, PODS, KubernetesDouble

from corral.errors import LaunchError, UnavailableError
from corral.launchers.base import RunStatus
from corral.launchers.kubernetes.launcher import KubernetesLauncher

NAME = "corral-job-1-a1"
RUNNING = RunStatus(is_running=True)


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesDouble]:
    async with KubernetesDouble(runs_pods=False) as double:
        yield double


@pytest.fixture
async def new_launcher(
    cluster: KubernetesDouble, tmp_path: Path
) -> AsyncIterator[Callable[..., KubernetesLauncher]]:
    async with Launchers(cluster, tmp_path) as launchers:
        yield launchers.new


@pytest.fixture
def launcher(new_launcher: Callable[..., KubernetesLauncher]) -> KubernetesLauncher:
    return new_launcher()


@pytest.fixture
def jobs(launcher: KubernetesLauncher, tmp_path: Path) -> Jobs:
    return Jobs(launcher, tmp_path / "runs")


async def running(cluster: KubernetesDouble, jobs: Jobs, job: str = "job-1") -> str:
    """A run whose pod runs, followed by the launcher."""
    handle = await jobs.start(job)
    cluster.add_pod(f"corral-{job}-a1", phase="Running")
    await poll_until(jobs, handle, RUNNING)
    await until(lambda: cluster.open_watches == {JOBS: 1, PODS: 1})
    return handle


async def poll_for(jobs: Jobs, handle: str, wanted: Callable[[RunStatus], object]) -> RunStatus:
    """The first status that is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while not wanted(status := await jobs.launcher.poll(handle)):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.005)
    return status


async def poll_until(jobs: Jobs, handle: str, expected: RunStatus) -> None:
    await poll_for(jobs, handle, lambda status: status == expected)


# ---------------------------------------------------------------- one watch for all


@pytest.mark.parametrize("count", [10, 1000])
async def test_any_number_of_runs_costs_one_list_and_one_watch(
    cluster: KubernetesDouble, jobs: Jobs, count: int
) -> None:
    handles = [await jobs.start(f"job-{n}") for n in range(count)]
    for n in range(count):
        cluster.add_pod(f"corral-job-{n}-a1", phase="Running")
    for _ in range(5):
        assert await asyncio.gather(*map(jobs.launcher.poll, handles)) == [RUNNING] * count
    await until(lambda: cluster.open_watches == {JOBS: 1, PODS: 1})
    for n in range(count):
        cluster.end_job(f"corral-job-{n}-a1")
    for handle in handles:
        await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    reads = {call: n for call, n in cluster.calls.items() if call[0] != "create"}
    assert reads == {
        ("list", JOBS): 1,
        ("watch", JOBS): 1,
        ("list", PODS): 1,
        ("watch", PODS): 1,
    }


async def test_the_end_of_a_run_is_seen_through_the_watch(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    cluster.end_job(NAME)
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    assert cluster.calls[("list", JOBS)] == 1
    assert cluster.calls[("get", JOBS)] == 0


async def test_a_watch_that_broke_off_goes_on_where_it_ended(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    for _ in range(3):
        before = cluster.calls[("watch", JOBS)]
        cluster.break_watches()
        await until(lambda before=before: cluster.calls[("watch", JOBS)] > before)
    cluster.break_watches()
    # Nobody watches when it happens.
    cluster.end_job(NAME)
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    assert cluster.calls[("list", JOBS)] == 1


@pytest.mark.parametrize("in_the_stream", [True, False])
async def test_a_version_that_was_forgotten_is_listed_again(
    cluster: KubernetesDouble, jobs: Jobs, in_the_stream: bool
) -> None:
    handle = await running(cluster, jobs)
    if not in_the_stream:
        cluster.break_watches()
    cluster.end_job(NAME)
    cluster.forget_history()
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    assert cluster.calls[("list", JOBS)] == 2
    # And the new watch works.
    second = await jobs.start("job-2")
    cluster.end_job("corral-job-2-a1")
    await poll_until(jobs, second, RunStatus(False, exit_code=0))
    assert cluster.calls[("list", JOBS)] == 2


async def test_a_server_that_is_away_changes_nothing_that_is_known(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    await cluster.go_away()
    assert await jobs.launcher.poll(handle) == RUNNING
    cluster.end_job(NAME)
    await cluster.come_back()
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))


async def test_a_server_that_refuses_watches_for_a_while_is_asked_again(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    cluster.refuse("list", JOBS, 503, message="starting", times=2)
    cluster.refuse("watch", JOBS, 429, message="too many", times=2)
    handle = await running(cluster, jobs)
    cluster.end_job(NAME)
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))


async def test_a_slow_list_is_waited_for(cluster: KubernetesDouble, jobs: Jobs) -> None:
    gate = cluster.hold("list", JOBS)
    handle = await jobs.start()
    polls = [asyncio.create_task(jobs.launcher.poll(handle)) for _ in range(20)]
    await until(lambda: cluster.calls[("list", JOBS)] == 1)
    assert not any(poll.done() for poll in polls)
    gate.set()
    assert await asyncio.gather(*polls) == [RUNNING] * 20
    assert cluster.calls[("list", JOBS)] == 1


# ---------------------------------------------------------------- stale and vanished


async def test_a_list_from_before_a_job_was_made_does_not_end_it(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    cluster.freeze_lists(JOBS)
    handle = await jobs.start()
    for _ in range(3):
        assert await jobs.launcher.poll(handle) == RUNNING
    assert cluster.calls[("list", JOBS)] == 1
    # Asked for once by name, and then known.
    assert cluster.calls[("get", JOBS)] == 1


async def test_a_list_from_before_a_job_ended_does_not_revive_it(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    cluster.freeze_lists(JOBS)
    cluster.end_job(NAME)
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    # Something else happens and is forgotten; then the watch has to begin anew.
    cluster.change(PODS, f"{NAME}-0", phase="Succeeded")
    cluster.forget_history()
    cluster.break_watches()
    await until(lambda: cluster.calls[("list", JOBS)] >= 2)
    for _ in range(20):
        assert not (await jobs.launcher.poll(handle)).is_running
        await asyncio.sleep(0)
    cluster.thaw_lists()


@pytest.mark.parametrize("is_watched", [True, False])
async def test_a_run_whose_job_vanished_has_ended_and_is_not_to_blame(
    cluster: KubernetesDouble, jobs: Jobs, is_watched: bool
) -> None:
    handle = await (running(cluster, jobs) if is_watched else jobs.start())
    cluster.vanish(JOBS, NAME)
    if is_watched:
        cluster.vanish(PODS, f"{NAME}-0")
    status = await ended(jobs.launcher, handle)
    assert (status.exit_code, status.signal, status.infrastructure) == (None, None, True)
    assert "deleted from the cluster" in status.detail


async def test_a_run_whose_job_was_deleted_goes_on_until_its_pods_have_ended(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    cluster.vanish(JOBS, NAME)
    # Once the launcher asks for the Job by name, it knows.
    await poll_for(jobs, handle, lambda status: cluster.calls[("get", JOBS)])
    assert await jobs.launcher.poll(handle) == RUNNING
    cluster.vanish(PODS, f"{NAME}-0")
    assert (await ended(jobs.launcher, handle)).infrastructure


async def test_the_exit_of_a_run_outlives_its_job(cluster: KubernetesDouble, jobs: Jobs) -> None:
    handle = await running(cluster, jobs)
    end = {"exit_code": 75, "signal": None}
    (jobs.file().parent / "exit.json").write_text(json.dumps(end))
    cluster.vanish(JOBS, NAME)
    cluster.vanish(PODS, f"{NAME}-0")
    await poll_until(jobs, handle, RunStatus(False, exit_code=75))


async def test_a_job_of_the_same_name_that_was_made_again_is_followed(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    cluster.end_job(NAME)
    await poll_until(jobs, handle, RunStatus(False, exit_code=0))
    cluster.vanish(JOBS, NAME)
    cluster.vanish(PODS, f"{NAME}-0")
    await jobs.start()
    await poll_until(jobs, handle, RUNNING)


# ---------------------------------------------------------------- creating


@pytest.mark.parametrize("code", [500, 504])
async def test_a_job_whose_answer_was_lost_is_adopted(
    cluster: KubernetesDouble, jobs: Jobs, code: int
) -> None:
    cluster.refuse("create", JOBS, code, after_effect=True)
    handle = await jobs.start()
    assert cluster.names(JOBS) == [NAME]
    assert cluster.calls[("create", JOBS)] == 2
    assert await jobs.launcher.poll(handle) == RUNNING


async def test_a_job_that_asks_for_something_else_is_not_adopted(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    await jobs.start(processes=1)
    with pytest.raises(LaunchError, match=f"{NAME} .* not made for this run"):
        await jobs.start(processes=2)
    assert cluster.names(JOBS) == [NAME]


async def test_a_job_with_other_labels_is_not_adopted(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    await jobs.start()
    cluster.object(JOBS, NAME)["metadata"]["labels"]["corral.dev/job"] = "another"
    with pytest.raises(LaunchError, match="not made for this run"):
        await jobs.start()


async def test_a_busy_server_is_asked_again(cluster: KubernetesDouble, jobs: Jobs) -> None:
    cluster.refuse("create", JOBS, 429, "TooManyRequests", "slow down", times=2)
    await jobs.start()
    assert cluster.names(JOBS) == [NAME]


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (403, 'jobs.batch is forbidden: User "x" cannot create', "may not create here"),
        (404, 'namespaces "corral-test" not found', "namespace corral-test is not there"),
        (401, "Unauthorized", "may not create here"),
        (422, "spec.template: unknown field", "does not take the request .* unknown field"),
    ],
)
async def test_a_refusal_is_a_sentence(
    cluster: KubernetesDouble, jobs: Jobs, code: int, message: str, said: str
) -> None:
    cluster.refuse("create", JOBS, code, "Forbidden", message)
    with pytest.raises(LaunchError, match=said) as caught:
        await jobs.start()
    assert caught.value.hint


async def test_no_cluster_is_unavailable_and_says_where_it_was_looked_for(
    cluster: KubernetesDouble, new_launcher: Callable[..., KubernetesLauncher], tmp_path: Path
) -> None:
    await cluster.go_away()
    jobs = Jobs(new_launcher(patience=0.3), tmp_path / "runs")
    with pytest.raises(UnavailableError, match=cluster.url) as caught:
        await jobs.start()
    assert "kubectl" in caught.value.hint


async def test_a_full_quota_is_waited_for(cluster: KubernetesDouble, jobs: Jobs) -> None:
    cluster.refuse("create", JOBS, 403, "Forbidden", "exceeded quota: jobs", times=2)
    await jobs.start()
    assert cluster.names(JOBS) == [NAME]


async def test_a_quota_that_stays_full_is_told(
    cluster: KubernetesDouble, new_launcher: Callable[..., KubernetesLauncher], tmp_path: Path
) -> None:
    message = "exceeded quota: training, requested: count/jobs=1, used: 5, limited: 5"
    cluster.refuse("create", JOBS, 403, "Forbidden", message, times=1000)
    jobs = Jobs(new_launcher(patience=0.3), tmp_path / "runs")
    with pytest.raises(UnavailableError, match=r"quota of namespace .* limited: 5"):
        await jobs.start()


@pytest.mark.parametrize("kind", [JOBS, PODS])
async def test_a_missing_permission_to_watch_is_named(
    cluster: KubernetesDouble,
    new_launcher: Callable[..., KubernetesLauncher],
    tmp_path: Path,
    kind: str,
) -> None:
    message = f'{kind} is forbidden: User "x" cannot list resource "{kind}"'
    cluster.refuse("list", kind, 403, "Forbidden", message, times=1000)
    jobs = Jobs(new_launcher(patience=0.3), tmp_path / "runs")
    handle = await jobs.start()
    with pytest.raises(LaunchError, match=f"cannot list resource .{kind}") as caught:
        await jobs.launcher.poll(handle)
    assert "Role" in caught.value.hint


async def test_a_cluster_that_comes_back_in_time_is_not_unavailable(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    await cluster.go_away()
    starting = asyncio.create_task(jobs.start())
    await asyncio.sleep(0)
    await cluster.come_back()
    await poll_until(jobs, await starting, RUNNING)


@pytest.mark.parametrize(
    "handle",
    ["", "garbage", "{}", "[]", "7", '{"kind": "kubernetes"}', '{"kind": "local", "job": "x"}'],
)
async def test_a_string_that_is_no_handle_is_refused(
    launcher: KubernetesLauncher, handle: str
) -> None:
    with pytest.raises(LaunchError, match="not a handle"):
        await launcher.poll(handle)
    with pytest.raises(LaunchError, match="not a handle"):
        await launcher.stop(handle, 1)


# ---------------------------------------------------------------- why it does not run, why it ended


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "training", "state": state}]}


UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
    ]
}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            UNSCHEDULABLE,
            "No node can take it yet: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "corral-train"'),
            'Its image can\'t be pulled: Back-off pulling image "corral-train".',
        ),
        (
            waiting("CreateContainerConfigError", 'secret "x" not found'),
            'Its container can\'t be set up: secret "x" not found.',
        ),
        (waiting("ContainerCreating"), ""),
    ],
)
async def test_why_a_pod_does_not_run_is_said(
    cluster: KubernetesDouble, jobs: Jobs, status: dict[str, Any], said: str
) -> None:
    handle = await jobs.start()
    cluster.change(PODS, cluster.add_pod(NAME), **status)
    await poll_until(jobs, handle, RunStatus(is_running=True, detail=said))
    cluster.change(PODS, f"{NAME}-0", phase="Running")
    await poll_until(jobs, handle, RUNNING)


async def test_a_job_that_gets_no_pod_says_where_to_look(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await jobs.start()
    cluster.change(JOBS, NAME, active=0)
    status = await poll_for(jobs, handle, lambda status: status.detail)
    assert status.is_running
    assert "quota" in status.detail
    assert f"kubectl describe job {NAME}" in status.detail


async def test_an_eviction_is_not_the_runs_fault(cluster: KubernetesDouble, jobs: Jobs) -> None:
    handle = await running(cluster, jobs)
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    state = {"terminated": {"exitCode": 137}}
    cluster.change(
        PODS,
        f"{NAME}-0",
        phase="Failed",
        conditions=[disrupted],
        containerStatuses=[{"name": "training", "state": state}],
    )
    cluster.end_job(NAME, "Failed", reason="PodFailurePolicy", message="matching FailJob rule")
    status = await ended(jobs.launcher, handle)
    assert (status.signal, status.infrastructure) == ("SIGKILL", True)
    assert status.detail == "The cluster took its place away: Eviction API: evicting"


async def test_an_eviction_is_known_though_the_jobs_end_is_seen_first(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    gate = cluster.hold("watch", PODS)
    cluster.break_watches()
    await until(lambda: cluster.open_watches[PODS] == 0)
    cluster.change(PODS, f"{NAME}-0", phase="Failed", reason="Evicted", message="low on disk")
    cluster.end_job(NAME, "Failed", reason="BackoffLimitExceeded", message="limit")
    status = await ended(jobs.launcher, handle)
    gate.set()
    assert status.infrastructure
    assert status.detail == "The cluster took its place away: low on disk"


async def test_what_a_pod_printed_that_never_began_is_kept_as_the_runs_log(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    cluster.printed[f"{NAME}-0"] = "python: No module named corral\n"
    cluster.change(PODS, f"{NAME}-0", phase="Failed")
    cluster.end_job(NAME, "Failed", reason="BackoffLimitExceeded", message="limit")
    await ended(jobs.launcher, handle)
    log = jobs.file().parent / "log.txt"
    assert log.read_text() == "python: No module named corral\n"


async def test_the_log_that_a_run_wrote_itself_is_left_alone(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    log = jobs.file().parent / "log.txt"
    log.write_text("all of it\n")
    cluster.printed[f"{NAME}-0"] = "the end of it\n"
    cluster.change(PODS, f"{NAME}-0", phase="Failed")
    cluster.end_job(NAME, "Failed", reason="BackoffLimitExceeded", message="limit")
    await ended(jobs.launcher, handle)
    assert log.read_text() == "all of it\n"


async def test_a_container_that_can_not_be_started_says_why(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    message = 'exec: "python": executable file not found in $PATH'
    state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}
    cluster.change(
        PODS,
        f"{NAME}-0",
        phase="Failed",
        containerStatuses=[{"name": "training", "state": state}],
    )
    cluster.end_job(NAME, "Failed", reason="BackoffLimitExceeded", message="limit")
    status = await ended(jobs.launcher, handle)
    assert (status.exit_code, status.detail) == (128, f"Its container can't be started: {message}")


async def test_a_run_that_had_no_memory_left_says_so(cluster: KubernetesDouble, jobs: Jobs) -> None:
    handle = await running(cluster, jobs)
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    cluster.change(
        PODS,
        f"{NAME}-0",
        phase="Failed",
        containerStatuses=[{"name": "training", "state": state}],
    )
    cluster.end_job(NAME, "Failed", reason="BackoffLimitExceeded", message="limit")
    status = await ended(jobs.launcher, handle)
    assert status == RunStatus(False, signal="SIGKILL", detail="It had no memory left")


async def test_a_run_that_took_too_long_says_so(cluster: KubernetesDouble, jobs: Jobs) -> None:
    handle = await running(cluster, jobs)
    message = "Job was active longer than specified deadline"
    cluster.end_job(NAME, "Failed", reason="DeadlineExceeded", message=message)
    status = await ended(jobs.launcher, handle)
    assert (status.detail, status.infrastructure) == (message, False)


async def test_a_pod_on_a_lost_node_keeps_nobody_waiting(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    pod = cluster.object(PODS, f"{NAME}-0")
    # What the taint manager did long ago; the kubelet has not answered.
    pod["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    cluster.change(PODS, f"{NAME}-0", phase="Running")
    status = await ended(jobs.launcher, handle)
    assert (status.infrastructure, status.detail) == (True, "The node that it ran on is lost")
    cluster.keeps_pods = True
    await jobs.launcher.stop(handle, 0)
    assert "deletionTimestamp" in cluster.object(JOBS, NAME)["metadata"]


async def test_a_run_whose_pods_do_not_end_can_not_be_stopped(
    cluster: KubernetesDouble,
    new_launcher: Callable[..., KubernetesLauncher],
    tmp_path: Path,
) -> None:
    jobs = Jobs(new_launcher(gone_seconds=0.1), tmp_path / "runs")
    handle = await running(cluster, jobs)
    cluster.keeps_pods = True
    with pytest.raises(LaunchError, match=f"The pods of Job {NAME} do not end") as caught:
        await jobs.launcher.stop(handle, 0)
    assert f"kubectl get pods -l batch.kubernetes.io/job-name={NAME}" in caught.value.hint
    # Asked again once they have ended, it finds nothing left.
    cluster.vanish(PODS, f"{NAME}-0")
    cluster.vanish(JOBS, NAME)
    await jobs.launcher.stop(handle, 0)


async def test_a_run_may_take_longer_to_save_than_its_pods_may_once_they_are_deleted(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await running(cluster, jobs)
    stopping = asyncio.create_task(jobs.launcher.stop(handle, 10 * PATIENCE))
    await until((jobs.file().parent / "stop.json").exists)
    assert await jobs.launcher.poll(handle) == RUNNING
    assert cluster.calls[("delete", JOBS)] == 0
    cluster.change(PODS, f"{NAME}-0", phase="Failed")
    await stopping
    assert cluster.names(JOBS) == []


async def test_stopping_a_job_that_vanished_does_nothing(
    cluster: KubernetesDouble, jobs: Jobs
) -> None:
    handle = await jobs.start()
    cluster.vanish(JOBS, NAME)
    await jobs.launcher.stop(handle, PATIENCE)
    assert cluster.calls[("delete", JOBS)] == 0
