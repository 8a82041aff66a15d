"""Corral on a real cluster, from `helm install` to `helm uninstall`, with things dying in between.

Everything is real but the size: the model is tiny and trains on the CPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.conditions import wait_for
from tests.installed_corral import BASE, RELEASE, SECONDS, TRAINING, Installation, run, say

pytestmark = pytest.mark.cluster

# A minute or two: long enough that something can be done to it in the middle.
STEPS = 3000
FLAGS = {
    "epochs": STEPS,
    "max_steps": STEPS,
    "batch_size": 2,
    "gradient_accumulation_steps": 6,
    "learning_rate": 1e-3,
    "max_length": 128,
    "precision": "fp32",
    "checkpoint_every": 50,
    "keep_checkpoints": 3,
}
REACHES_REDIS = (
    "import os, socket, sys\n"
    "try: socket.create_connection((sys.argv[1], 6379), timeout=5).close()\n"
    "except OSError as error: print(type(error).__name__)\n"
    "else: print('connected')\n"
)


def start(corral: Installation, rows: Path, **flags: object) -> str:
    return corral.train(rows, BASE, {**FLAGS, **flags})


def succeeded(corral: Installation, job: str, *, steps: int = STEPS) -> dict[str, object]:
    ended = corral.end(job)
    assert ended["state"] == "SUCCEEDED", ended
    final = ended["checkpoints"][-1]
    assert (final["step"], final["is_final"]) == (steps, True), final
    return ended


def test_everything_is_ready_under_pod_security_restricted(corral: Installation) -> None:
    pods = corral.objects("pods")
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
    assert components >= {"trainer", "inference", "worker", "redis"}
    for pod in pods:
        statuses = pod["status"]["containerStatuses"]
        assert all(status["ready"] for status in statuses), pod["metadata"]["name"]


def test_helm_test_passes(corral: Installation) -> None:
    # Fails with what helm says unless its pod succeeds.
    corral.helm("test", RELEASE, "--logs", "--timeout", "5m")


def test_a_checkpoint_can_be_chatted_with_while_its_run_goes_on_and_the_run_can_be_cancelled(
    corral: Installation, rows: Path
) -> None:
    job = start(corral, rows)
    model = corral.first_checkpoint(job)["checkpoints"][-1]["model"]
    assert corral.chat(model)
    assert corral.job(job)["state"] == "RUNNING"

    assert corral.corral("jobs", "cancel", job).returncode == 0

    ended = corral.end(job)
    assert ended["state"] == "CANCELLED"
    assert ended["checkpoints"]
    wait_for(lambda: not corral.objects("pods", f"{TRAINING},corral.dev/job={job}"), SECONDS)


def test_a_run_trains_to_its_end_and_leaves_a_model_but_no_kubernetes_job(
    corral: Installation, rows: Path
) -> None:
    job = start(corral, rows, max_steps=100)
    ended = succeeded(corral, job, steps=100)
    assert ended["attempt"] == 1
    assert corral.chat(str(ended["fine_tuned_model"]))
    wait_for(lambda: not corral.objects("jobs", f"corral.dev/job={job}"), SECONDS)


def test_two_pods_train_one_model(corral: Installation, rows: Path) -> None:
    job = start(corral, rows, max_steps=100, processes=2, nodes=2)
    wait_for(lambda: len(corral.training_pods(job)) == 2, SECONDS)
    succeeded(corral, job, steps=100)


def test_a_run_whose_pod_is_killed_goes_on_from_its_last_checkpoint(
    corral: Installation, rows: Path
) -> None:
    job = start(corral, rows)
    corral.first_checkpoint(job)
    name = corral.running_pod(job)["metadata"]["name"]

    corral.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    ended = succeeded(corral, job)
    assert ended["attempt"] == 2
    assert corral.run_file(job, 2)["resume_from"].startswith("step-")


def test_a_training_pod_reaches_no_redis(corral: Installation, rows: Path) -> None:
    job = start(corral, rows)
    name = corral.running_pod(job)["metadata"]["name"]
    probe = ("python", "-c", REACHES_REDIS, f"{RELEASE}-redis")
    from_training = corral.kubectl("exec", name, "--container", "training", "--", *probe)
    from_worker = corral.kubectl("exec", f"deployment/{RELEASE}-worker", "--", *probe)
    corral.corral("jobs", "cancel", job)
    corral.end(job)
    assert from_worker.strip() == "connected"
    if os.environ.get("CORRAL_TEST_NETWORK_POLICIES") == "0":
        pytest.skip(f"this cluster does not enforce network policies; training: {from_training}")
    assert from_training.strip() != "connected"


def test_a_drained_node_s_run_goes_on_elsewhere(
    corral: Installation, rows: Path, access_mode: str
) -> None:
    if access_mode != "ReadWriteMany":
        pytest.skip("without a ReadWriteMany volume, all pods are bound to one node")
    job = start(corral, rows)
    corral.first_checkpoint(job)
    pod = corral.running_pod(job)
    node = pod["spec"]["nodeName"]
    flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=5m")
    try:
        # Of this run alone: the cluster may be somebody's.
        run("kubectl", "drain", node, "--pod-selector", f"corral.dev/job={job}", *flags)
        other = wait_for(
            lambda: [p for p in corral.training_pods(job) if p["spec"].get("nodeName")], SECONDS
        )[0]
        assert other["spec"]["nodeName"] != node
        succeeded(corral, job)
    finally:
        run("kubectl", "uncordon", node)


def test_a_restarted_worker_loses_no_job(corral: Installation, rows: Path) -> None:
    job = start(corral, rows)
    corral.first_checkpoint(job)

    corral.kubectl("rollout", "restart", f"deployment/{RELEASE}-worker")
    corral.kubectl("rollout", "status", f"deployment/{RELEASE}-worker", "--timeout", "5m")

    succeeded(corral, job)


def test_an_upgrade_in_the_middle_of_a_run_loses_no_job_and_leaves_redis_alone(
    corral: Installation, rows: Path
) -> None:
    def redis() -> tuple[str, str]:
        (pod,) = corral.objects("pods", "app.kubernetes.io/component=redis")
        (secret,) = corral.objects("secrets", "app.kubernetes.io/component=redis")
        return pod["metadata"]["uid"], secret["data"]["password"]

    before = redis()
    job = start(corral, rows)
    corral.first_checkpoint(job)

    corral.install("logLevel=debug")

    assert redis() == before
    succeeded(corral, job)
    # The forwards have found the new pods; what was trained before is still there.
    assert corral.corral("jobs", "list").returncode == 0


def test_an_uninstall_leaves_nothing_but_the_data(corral: Installation) -> None:
    corral.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
    left = {
        kind: {one["metadata"]["name"] for one in corral.objects(kind)}
        for kind in (
            "deployments",
            "statefulsets",
            "jobs",
            "services",
            "networkpolicies",
            "roles",
            "rolebindings",
            "poddisruptionbudgets",
            "persistentvolumeclaims",
        )
    }
    say(f"left: {left}")
    assert left.pop("persistentvolumeclaims") == {"corral-data", "data-corral-redis-0"}
    assert not any(left.values())
    secrets = {one["metadata"]["name"] for one in corral.objects("secrets")}
    # It fits the data of Redis that was kept.
    assert "corral-redis" in secrets
