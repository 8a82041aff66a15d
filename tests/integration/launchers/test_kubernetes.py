"""KubernetesLauncher with Jobs that really run: the conformance tests, and what can happen to a pod."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")

from tests.conformance import launcher as conformance
from tests.conformance.launcher import Runs, described, ended, living, pids, until
from tests.kubernetes_builders import Launchers, job_options
from tests.kubernetes_double import JOBS, PODS, KubernetesDouble

from corral.launchers.base import Launcher, RunStatus
from corral.launchers.kubernetes.launcher import KubernetesLauncher
from corral.launchers.kubernetes.manifest import job_name, training_command
from corral.run import TrainingRun


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesDouble]:
    async with KubernetesDouble() as double:
        yield double


NewLauncher = Callable[..., KubernetesLauncher]


@pytest.fixture
async def new_launcher(cluster: KubernetesDouble, tmp_path: Path) -> AsyncIterator[NewLauncher]:
    async with Launchers(cluster, tmp_path) as launchers:
        yield launchers.new


class TestKubernetesLauncher(conformance.LauncherConformance):
    async def test_a_stopped_run_leaves_nothing_in_the_cluster(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        _, handle = await runs.working()
        await launcher.stop(handle, conformance.PATIENCE)
        assert (cluster.names(JOBS), cluster.names(PODS)) == ([], [])

    async def test_an_ended_run_stays_in_the_cluster_until_it_is_stopped(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        handle = await runs.start(runs.file(do="exit", code=3))
        await ended(launcher, handle)
        assert cluster.names(JOBS) == ["corral-job-1-a1"]
        await launcher.stop(handle, 0)
        assert (cluster.names(JOBS), cluster.names(PODS)) == ([], [])
        assert (await launcher.poll(handle)).exit_code == 3

    async def test_a_run_whose_job_was_cleared_away_does_not_run_again(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="exit", code=3)
        handle = await runs.start(run_file)
        await ended(launcher, handle)
        await launcher.stop(handle, 0)
        assert await runs.start(run_file) == handle
        assert cluster.names(JOBS) == []

    async def test_a_killed_pod_ends_the_run_by_its_signal(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working("family")
        cluster.kill_pod("corral-job-1-a1-0")
        # Nobody was left to write exit.json; the pod's own state says it.
        assert await ended(launcher, handle) == RunStatus(is_running=False, signal="SIGKILL")
        for pid in living(run_file):
            # Outside a container, the kernel does not end what its first process leaves.
            os.kill(pid, signal.SIGKILL)

    async def test_a_later_attempt_ends_what_earlier_ones_left(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        # Ten is later than two, though not as text.
        old = runs.file("job-x", 2, do="stubborn")
        await runs.start(old)
        await until(lambda: pids(old))
        other = runs.file("job-xy", 1, do="work")
        await runs.start(other)
        await until(lambda: pids(other))
        new = await runs.start(runs.file("job-x", 10, do="work"))
        assert living(old) == []
        assert sorted(cluster.names(JOBS)) == ["corral-job-x-a10", "corral-job-xy-a1"]
        await runs.start(runs.file("job-x", 9, do="exit", code=0))
        assert (await launcher.poll(new)).is_running
        assert len(living(other)) == 1

    async def test_who_loses_patience_with_a_run_that_saves_can_still_kill_it(
        self, cluster: KubernetesDouble, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working("save")
        patient = asyncio.create_task(launcher.stop(handle, conformance.PATIENCE))
        await until((run_file.parent / "stopped").exists)
        await launcher.stop(handle, 0)
        await patient
        assert living(run_file) == []
        assert (await launcher.poll(handle)).signal == "SIGKILL"

    async def test_who_stops_a_run_may_give_it_longer_than_was_said_at_its_start(
        self, cluster: KubernetesDouble, new_launcher: NewLauncher, runs: Runs
    ) -> None:
        launcher = new_launcher(stop_seconds=0)
        run_file = runs.file(do="save")
        handle = await launcher.start(run_file, described(run_file))
        await until(lambda: pids(run_file))
        stopping = asyncio.create_task(launcher.stop(handle, conformance.PATIENCE))
        await until((run_file.parent / "stopped").exists)
        assert cluster.calls[("delete", JOBS)] == 0
        (run_file.parent / "saved").touch()
        await stopping
        assert (await launcher.poll(handle)).exit_code == 75
        assert (cluster.names(JOBS), cluster.names(PODS)) == ([], [])

    async def test_a_job_that_leaves_its_queue_again_has_ended(
        self, cluster: KubernetesDouble, new_launcher: NewLauncher, runs: Runs
    ) -> None:
        launcher = new_launcher(queue="gpus")
        run_file = runs.file(do="work")
        handle = await launcher.start(run_file, described(run_file))
        status = await launcher.poll(handle)
        assert status == RunStatus(True, detail="It waits for its turn in the queue gpus.")
        cluster.set_suspended("corral-job-1-a1", False)
        await until(lambda: pids(run_file))
        assert (await launcher.poll(handle)) == RunStatus(is_running=True)
        cluster.set_suspended("corral-job-1-a1", True)
        status = await ended(launcher, handle)
        assert status.infrastructure
        assert status.exit_code == 75
        assert living(run_file) == []
        await launcher.stop(handle, 0)

    async def test_each_node_has_a_log_and_a_rank(
        self, cluster: KubernetesDouble, new_launcher: NewLauncher, runs: Runs
    ) -> None:
        def says_rank(run_file: Path, run: TrainingRun) -> list[str]:
            return [sys.executable, "-c", "print('rank', '$(JOB_COMPLETION_INDEX)')"]

        launcher = new_launcher(command=says_rank)
        run_file = runs.file(do="nothing")
        handle = await launcher.start(run_file, described(run_file, processes=4, nodes=2))
        assert await ended(launcher, handle) == RunStatus(is_running=False, exit_code=0)
        assert (run_file.parent / "log.txt").read_text() == "rank 0\n"
        assert (run_file.parent / "log-1.txt").read_text() == "rank 1\n"
        await launcher.stop(handle, 0)


RANK = """
import os, pathlib, sys
from torch import distributed, ones
distributed.init_process_group("gloo")
total = ones(1)
distributed.all_reduce(total)
rank, node = os.environ["RANK"], os.environ["GROUP_RANK"]
(pathlib.Path(sys.argv[1]) / f"rank-{rank}").write_text(f"node {node}: {total.item():.0f}")
distributed.barrier()
# Without gloo's threads: they may abort a process that ends in the usual way.
os._exit(0)
"""


@pytest.mark.torch
async def test_the_ranks_of_two_nodes_find_each_other(
    new_launcher: NewLauncher, tmp_path: Path
) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def command(run_file: Path, run: TrainingRun) -> list[str]:
        built = training_command(run_file, run, job_options())
        name = job_name(run.job_id, run.attempt)
        here = [f"127.0.0.1:{port}" if f"{name}-0." in part else part for part in built]
        assert here != built
        assert here[-3:] == ["-m", "corral.training", str(run_file)]
        return [*here[:-3], str(script), str(run_file.parent)]

    launcher = new_launcher(command=command)
    run_file = Runs(launcher, tmp_path / "runs").file(do="nothing")
    handle = await launcher.start(run_file, described(run_file, processes=4, nodes=2))
    status = await ended(launcher, handle)
    log = (run_file.parent / "log.txt").read_text()
    assert status == RunStatus(is_running=False, exit_code=0), log
    said = [(run_file.parent / f"rank-{rank}").read_text() for rank in range(4)]
    assert said == ["node 0: 4", "node 0: 4", "node 1: 4", "node 1: 4"]
    assert json.loads((run_file.parent / "exit.json").read_text())["exit_code"] == 0
