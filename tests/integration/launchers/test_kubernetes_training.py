"""The command that a pod really gets: torchrun, corral.training, a tiny model, on one node and on two."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("kubernetes")

from tests.conditions import until
from tests.conformance.launcher import PATIENCE, ended
from tests.kubernetes_builders import Launchers, job_options
from tests.kubernetes_double import JOBS, PODS, KubernetesDouble
from tests.runs import losses, read_events, train, write_run
from tests.tiny_models import tiny_gpt2

from corral.checkpoints.folders import complete_checkpoints
from corral.launchers.base import RunStatus
from corral.launchers.kubernetes.launcher import KubernetesLauncher
from corral.launchers.kubernetes.manifest import job_name, training_command
from corral.run import CheckpointWritten, Ended, TrainingRun
from corral.volume import Volume


@pytest.fixture
async def cluster() -> AsyncIterator[KubernetesDouble]:
    async with KubernetesDouble() as double:
        yield double


@pytest.fixture
async def launcher(cluster: KubernetesDouble, tmp_path: Path) -> AsyncIterator[KubernetesLauncher]:
    async with Launchers(cluster, tmp_path) as launchers:
        yield launchers.new(command=meeting_here())


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    return tiny_gpt2(tmp_path / "gpt2")


def meeting_here() -> Callable[[Path, TrainingRun], list[str]]:
    """The launcher's own command, but the first pod's name is this machine's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def command(run_file: Path, run: TrainingRun) -> list[str]:
        first_pod = f"{job_name(run.job_id, run.attempt)}-0.corral-training:29500"
        built = training_command(run_file, run, job_options())
        assert (first_pod in built) == (run.spec.nodes > 1)
        return [address if part == first_pod else part for part in built]

    return command


async def test_two_nodes_train_what_one_machine_trains(
    cluster: KubernetesDouble, launcher: KubernetesLauncher, volume: Volume, gpt2: Path
) -> None:
    run_file = write_run(volume, gpt2, job_id="nodes", processes=2, nodes=2)
    handle = await launcher.start(run_file, TrainingRun.read(run_file))
    status = await ended(launcher, handle)
    log = (run_file.parent / "log.txt").read_text()
    assert status == RunStatus(is_running=False, exit_code=0), log
    pods = [cluster.object(PODS, f"corral-nodes-a1-{index}") for index in range(2)]
    assert [pod["status"]["phase"] for pod in pods] == ["Succeeded"] * 2
    alone = train(write_run(volume, gpt2, job_id="alone", processes=2), 2)
    assert losses(read_events(run_file)) == pytest.approx(losses(alone), rel=1e-5)
    assert len(complete_checkpoints(volume.checkpoints("nodes"))) >= 1
    await launcher.stop(handle, 0)


async def test_a_run_that_is_evicted_saves_and_says_that_it_was_stopped(
    cluster: KubernetesDouble, launcher: KubernetesLauncher, volume: Volume, gpt2: Path
) -> None:
    run_file = write_run(volume, gpt2, job_id="evicted", epochs=5000)
    handle = await launcher.start(run_file, TrainingRun.read(run_file))
    await until(lambda: losses(read_events(run_file)))
    cluster.evict("corral-evicted-a1-0")
    status = await ended(launcher, handle)
    assert status.infrastructure
    last = read_events(run_file)[-1]
    assert isinstance(last, Ended)
    assert last.outcome == "stopped"
    assert complete_checkpoints(volume.checkpoints("evicted"))
    pod = cluster.object(PODS, "corral-evicted-a1-0")
    # What the Job's podFailurePolicy goes by, though torchrun says 1 whatever happened.
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 75
    await launcher.stop(handle, 0)
    assert cluster.names(JOBS) == []


async def test_a_run_that_is_stopped_saves(
    cluster: KubernetesDouble, launcher: KubernetesLauncher, volume: Volume, gpt2: Path
) -> None:
    run_file = write_run(volume, gpt2, job_id="stopped", epochs=5000)
    handle = await launcher.start(run_file, TrainingRun.read(run_file))
    await until(lambda: losses(read_events(run_file)))
    await launcher.stop(handle, PATIENCE)
    assert (cluster.names(JOBS), cluster.names(PODS)) == ([], [])
    assert complete_checkpoints(volume.checkpoints("stopped"))
    assert all(
        event.seconds > 0 for event in read_events(run_file) if isinstance(event, CheckpointWritten)
    )
    assert not (await launcher.poll(handle)).is_running
