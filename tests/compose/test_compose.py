"""docker-compose.yml as a user starts it, with a container dying in the middle of a run.

`make compose-test` runs this. It builds the images, publishes on free ports of this machine, uses the
installed `corral` command as client, and takes everything down again, volumes too. The tests share one
deployment and run in order.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compose_deployment import Deployment, missing_docker
from tests.conditions import wait_for
from tests.tiny_models import tiny_gpt2

pytestmark = [
    pytest.mark.docker,
    pytest.mark.torch,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("compose"),
]

ROWS = Path(__file__).resolve().parents[2] / "examples" / "ranch_hand.jsonl"
SECONDS = 180
MODEL = "tiny-gpt2"
# Long enough that a worker can be killed after the first checkpoint and long before the last.
STEPS = 200
TRAINING = (f"--max-steps={STEPS}", "--epochs=100", "--batch-size=4", "--precision=fp32")
TRAINING += ("--gradient-accumulation-steps=1", "--checkpoint-every=10", "--keep-checkpoints=3")
GREEDY = ("--temperature=0", "--max-tokens=8")
QUESTION = "Who made you?"

# Runs in the trainer's container: a folder out of a tar file, below the volume's bases.
UNPACK = """
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    archive.extractall("/data/bases", filter="data")
"""
# Runs in the worker's container: kill -9 of the worker, which stands under the container's init.
KILL_WORKER = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    words = (folder / "cmdline").read_bytes().split(b"\\0")
    if words[1:3] == [b"-m", b"corral.trainer.worker"]:
        os.kill(int(folder.name), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything up and healthy, with a tiny random GPT-2 among the base models."""
    if why := missing_docker():
        pytest.skip(f"{why}: the Compose deployment is not tested.")
    deployment = Deployment()
    try:
        deployment.compose("build", seconds=1500)
        deployment.tell("images built")
        deployment.compose("up", "--detach", "--wait", seconds=SECONDS)
        deployment.tell("healthy")
        folder = tiny_gpt2(tmp_path_factory.mktemp("models") / MODEL, n_positions=1024)
        put_base(deployment, folder)
        yield deployment
    finally:
        deployment.compose("down", "--volumes", "--remove-orphans", seconds=SECONDS)
        deployment.tell("taken down")


def put_base(deployment: Deployment, folder: Path) -> None:
    """Copy a model's folder onto the data volume, as the user that the services run as."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=folder.name)
    deployment.python("trainer", UNPACK, stdin=packed.getvalue())


@pytest.mark.parametrize("service", ["redis", "trainer", "worker", "inference"])
def test_a_container_may_do_only_what_it_needs(deployment: Deployment, service: str) -> None:
    container = deployment.container(service)
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert container["Config"]["User"] in ("10001:10001", "999:999")
    published = [binding for found in host["PortBindings"].values() for binding in found]
    assert all(binding["HostIp"] == "127.0.0.1" for binding in published)
    assert bool(published) == (service in ("trainer", "inference"))


def test_the_trainers_image_is_small_and_has_no_torch(deployment: Deployment) -> None:
    size = deployment.docker(
        "image", "inspect", "--format", "{{.Size}}", deployment.container("trainer")["Image"]
    )
    assert int(size) < 350_000_000
    find = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert deployment.python("trainer", find).strip() == "None"


def test_the_trainers_image_can_launch_runs_in_a_cluster_and_on_modal(
    deployment: Deployment,
) -> None:
    deployment.python("trainer", "import corral.launchers.kubernetes.setup, modal")


def test_the_base_model_of_the_image_answers(deployment: Deployment) -> None:
    assert deployment.corral("chat", "smollm2-135m", *GREEDY, question=QUESTION).strip()


def test_prometheus_finds_the_figures_of_every_service(deployment: Deployment) -> None:
    get = "import urllib.request as u; print(u.urlopen('http://{}:9464/metrics').read().decode())"
    for service, figure in (
        ("trainer", 'corral_jobs{state="QUEUED"} 0.0'),
        ("worker", "corral_worker_runs 0.0"),
        ("inference", "corral_models_loaded 1.0"),
    ):
        assert figure in deployment.python("trainer", get.format(service))


def test_a_job_outlives_the_worker_that_trains_it(deployment: Deployment) -> None:
    job = deployment.corral("train", str(ROWS), "--model", MODEL, *TRAINING, "--no-watch").strip()
    wait_for(lambda: deployment.job(job)["checkpoints"], SECONDS)
    deployment.tell("first checkpoint")
    worker = deployment.container("worker")

    # The container ends with it, and this command too: what it exits with says nothing.
    deployment.try_docker("exec", worker["Id"], "python", "-c", KILL_WORKER)
    deployment.tell("worker killed")

    wait_for(lambda: deployment.job(job)["state"] in ("SUCCEEDED", "FAILED"), SECONDS)
    ended = deployment.job(job)
    deployment.tell(f"{ended['state']} in attempt {ended['attempt']}")
    assert (ended["state"], ended["attempt"]) == ("SUCCEEDED", 2), ended
    assert ended["checkpoints"][-1]["step"] == STEPS
    restarted = deployment.container("worker")
    assert restarted["Id"] == worker["Id"]
    assert restarted["RestartCount"] == worker["RestartCount"] + 1
    answer = deployment.corral("chat", ended["fine_tuned_model"], *GREEDY, question=QUESTION)
    assert answer.strip()
    deployment.tell(f"the checkpoint answers {answer.strip()!r}")


def test_every_service_ends_by_itself_when_it_is_stopped(deployment: Deployment) -> None:
    services = ("worker", "inference", "trainer", "redis")
    deployment.compose("stop", *services)
    assert {name: deployment.container(name)["State"]["ExitCode"] for name in services} == (
        dict.fromkeys(services, 0)
    )
