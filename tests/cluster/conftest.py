"""One installation for all tests here. They need a cluster, so only `make test-cluster` collects them.

Read from the environment, beside KUBECONFIG:

    CORRAL_TEST_IMAGE_TRAINER, CORRAL_TEST_IMAGE_INFERENCE, CORRAL_TEST_IMAGE_TRAIN
                                    images that the nodes have or can pull (needed)
    CORRAL_TEST_IMAGE_REDIS         in place of the chart's
    CORRAL_TEST_STORAGE_CLASS       in place of the cluster's default
    CORRAL_TEST_ACCESS_MODE         ReadWriteMany where that class has it; by default ReadWriteOnce,
                                    and then all pods are put on one node
    CORRAL_TEST_NETWORK_POLICIES    0 where the cluster's network does not enforce them
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.conditions import wait_for
from tests.installed_corral import BASE, SECONDS, Installation, forwarded, free_port, run, say
from tests.runs import ROWS
from tests.tiny_models import tiny_gpt2

collect_ignore_glob = [] if os.environ.get("CORRAL_TEST_CLUSTER") else ["test_*.py"]

SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
IMAGES = {"trainer": "TRAINER", "inference": "INFERENCE", "training": "TRAIN"}


@pytest.fixture(scope="session")
def access_mode() -> str:
    return os.environ.get("CORRAL_TEST_ACCESS_MODE", "ReadWriteOnce")


@pytest.fixture(scope="session")
def corral(tmp_path_factory: pytest.TempPathFactory, access_mode: str) -> Iterator[Installation]:
    """Installed, reachable, with a tiny base model on its volume; gone afterwards."""
    folder = tmp_path_factory.mktemp("cluster")
    trainer, inference = free_port(), free_port()
    values = folder / "values.json"
    values.write_text(json.dumps(values_for(access_mode, inference), indent=2))
    say(values.read_text())
    namespace = f"corral-test-{secrets.token_hex(3)}"
    run("kubectl", "create", "namespace", namespace)
    with ExitStack() as last:
        last.callback(run, "kubectl", "delete", "namespace", namespace, "--wait=false")
        # Pods that need more than this may not start.
        level = "pod-security.kubernetes.io/enforce=restricted"
        run("kubectl", "label", "namespace", namespace, level)
        installed = Installation(namespace, values, trainer)
        try:
            installed.install()
        except AssertionError:
            installed.show()
            raise
        installed.copy_base(tiny_gpt2(folder / BASE))
        last.enter_context(forwarded(namespace, "corral-trainer", trainer, 7470))
        last.enter_context(forwarded(namespace, "corral-inference", inference, 7471))
        wait_for(lambda: installed.corral("models", "list", quiet=True).returncode == 0, SECONDS)
        yield installed


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


@pytest.fixture(autouse=True)
def explained(request: pytest.FixtureRequest, corral: Installation) -> Iterator[None]:
    """Shows the cluster where a test has failed."""
    failed_before = request.session.testsfailed
    say("")
    say(f"=== {request.node.name}")
    yield
    if request.session.testsfailed > failed_before:
        corral.show()


def values_for(access_mode: str, inference_port: int) -> dict[str, Any]:
    """The chart's values: small, on CPUs, on one node where the volume is of one node."""
    storage = os.environ.get("CORRAL_TEST_STORAGE_CLASS", "")
    is_pinned = access_mode == "ReadWriteOnce"
    place = {"nodeSelector": {"kubernetes.io/hostname": a_node()} if is_pinned else {}}
    values: dict[str, Any] = {
        name: {"image": image(f"CORRAL_TEST_IMAGE_{variable}"), "resources": SMALL, **place}
        for name, variable in IMAGES.items()
    }
    values["trainer"]["inferenceAddress"] = f"127.0.0.1:{inference_port}"
    values["training"] |= {"gpusPerProcess": 0, "shmSize": "256Mi"}
    values["worker"] = {**place, "stopSeconds": 30}
    values["redis"] = {"persistence": {"size": "1Gi", "storageClass": storage}}
    if "CORRAL_TEST_IMAGE_REDIS" in os.environ:
        values["redis"]["image"] = image("CORRAL_TEST_IMAGE_REDIS")
    values["volume"] = {
        "accessMode": access_mode,
        "singleNode": is_pinned,
        "size": "2Gi",
        "storageClass": storage,
    }
    return values


def image(variable: str) -> dict[str, str]:
    """A whole image's name as the chart's values have it."""
    given = os.environ.get(variable)
    assert given, f"{variable} is not set: which image are the tests to use?"
    repository, _, tag = given.rpartition(":")
    assert repository, f"{variable}={given} has no tag"
    return {"repository": repository, "tag": tag}


def a_node() -> str:
    """The host name of a node that takes pods."""
    nodes = json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"]
    free = [
        node["metadata"]["labels"]["kubernetes.io/hostname"]
        for node in nodes
        if not node["spec"].get("unschedulable") and not node["spec"].get("taints")
    ]
    assert free, "no node takes pods: all are cordoned or tainted"
    return str(free[0])
