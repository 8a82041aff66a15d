"""What of a Job comes from the operator's template, and what from the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from kubernetes.aio.client import ApiClient
from tests.conformance.launcher import described
from tests.kubernetes_builders import job_options

from corral.errors import LaunchError
from corral.launchers.kubernetes.manifest import (
    job_manifest,
    job_name,
    label_of,
    training_command,
)
from corral.launchers.kubernetes.template import read_template
from corral.launchers.torchrun import ENVIRONMENT

RUN_FILE = Path("/data/runs/job-1/a2/run.json")

TEMPLATE: dict[str, Any] = {
    "metadata": {
        "labels": {"app.kubernetes.io/instance": "my-release", "team": "nlp"},
        "annotations": {"note": "kept"},
    },
    "spec": {
        "restartPolicy": "OnFailure",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "containers": [
            {"name": "sidecar", "image": "proxy", "resources": {"limits": {"cpu": "1"}}},
            {
                "name": "training",
                "image": "corral-train:1",
                "env": [{"name": "GOMP_SPINCOUNT", "value": "7"}],
                "resources": {"limits": {"memory": "8Gi"}, "requests": {"cpu": "2"}},
            },
        ],
    },
}


def manifest_of(
    template: dict[str, Any] = TEMPLATE,
    *,
    options: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    run, chosen = described(RUN_FILE, **spec), job_options(**(options or {}))
    return job_manifest(template, RUN_FILE, run, chosen, training_command(RUN_FILE, run, chosen))


def training(manifest: dict[str, Any]) -> dict[str, Any]:
    containers = manifest["spec"]["template"]["spec"]["containers"]
    return next(one for one in containers if one["name"] == "training")


def test_the_template_is_the_operators() -> None:
    pod = manifest_of()["spec"]["template"]
    assert pod["spec"]["tolerations"] == TEMPLATE["spec"]["tolerations"]
    assert pod["spec"]["containers"][0] == TEMPLATE["spec"]["containers"][0]
    assert pod["metadata"]["annotations"] == {"note": "kept"}
    assert pod["metadata"]["labels"]["team"] == "nlp"
    assert training(manifest_of())["image"] == "corral-train:1"


def test_making_a_manifest_does_not_change_the_template() -> None:
    before = repr(TEMPLATE)
    manifest_of(options={"gpus_per_process": 2}, processes=4, nodes=2)
    assert repr(TEMPLATE) == before


def test_labels_name_the_job_its_attempt_and_the_release() -> None:
    manifest = manifest_of()
    expected = {
        "app.kubernetes.io/name": "corral",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/instance": "my-release",
        "corral.dev/job": "job-1",
        "corral.dev/attempt": "2",
    }
    assert manifest["metadata"]["labels"] == expected
    assert manifest["spec"]["template"]["metadata"]["labels"] == {"team": "nlp", **expected}
    assert manifest["metadata"]["name"] == "corral-job-1-a2"


def test_the_queue_alone_tries_again() -> None:
    spec = manifest_of()["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert "ttlSecondsAfterFinished" not in spec


def test_a_training_pod_has_no_access_to_the_cluster() -> None:
    assert manifest_of()["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_pod_has_time_to_save() -> None:
    pod = manifest_of(options={"stop_seconds": 90.5})["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 90.5


def test_a_run_that_says_how_long_it_takes_to_save_gets_that_long() -> None:
    run = described(RUN_FILE).model_copy(update={"stop_seconds": 400.0})
    manifest = job_manifest(TEMPLATE, RUN_FILE, run, job_options(stop_seconds=60), ["train"])
    assert manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 400
    arguments = training(manifest)["args"]
    assert float(arguments[arguments.index("--grace") + 1]) == 400


@pytest.mark.parametrize(("seconds", "expected"), [(0, None), (3600, 3600)])
def test_a_deadline_is_set_only_if_asked_for(seconds: int, expected: int | None) -> None:
    spec = manifest_of(options={"deadline_seconds": seconds})["spec"]
    assert spec.get("activeDeadlineSeconds") == expected


def test_a_queue_gets_a_suspended_job() -> None:
    queued = manifest_of(options={"queue": "gpus"})
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in manifest_of()["spec"]


def test_gpus_are_those_of_the_processes_on_one_node() -> None:
    resources = training(manifest_of(options={"gpus_per_process": 2}, processes=8, nodes=2))[
        "resources"
    ]
    assert resources == {
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "8"},
        "requests": {"cpu": "2", "nvidia.com/gpu": "8"},
    }


def test_training_on_cpus_leaves_the_resources_alone() -> None:
    asked = training(manifest_of(options={"gpus_per_process": 0}))["resources"]
    assert asked == TEMPLATE["spec"]["containers"][1]["resources"]


def test_the_templates_own_environment_wins() -> None:
    env = {one["name"]: one["value"] for one in training(manifest_of())["env"]}
    assert env == ENVIRONMENT | {"GOMP_SPINCOUNT": "7"}


def test_one_node_needs_no_other() -> None:
    manifest = manifest_of(processes=2)
    assert manifest["spec"]["completionMode"] == "NonIndexed"
    assert manifest["spec"]["parallelism"] == manifest["spec"]["completions"] == 1
    assert "subdomain" not in manifest["spec"]["template"]["spec"]
    args = training(manifest)["args"]
    assert args[0] == "/data/runs/job-1/a2"
    assert value_after(args, "--nnodes") == "1"
    assert value_after(args, "--nproc-per-node") == "2"
    assert "127.0.0.1" in value_after(args, "--rdzv-endpoint")


def test_several_nodes_meet_at_the_first_under_the_attempts_name() -> None:
    manifest = manifest_of(options={"service": "my-training"}, processes=4, nodes=2)
    assert manifest["spec"]["completionMode"] == "Indexed"
    assert manifest["spec"]["parallelism"] == manifest["spec"]["completions"] == 2
    assert manifest["spec"]["template"]["spec"]["subdomain"] == "my-training"
    args = training(manifest)["args"]
    assert value_after(args, "--nnodes") == "2"
    assert value_after(args, "--nproc-per-node") == "2"
    assert value_after(args, "--rdzv-endpoint") == "corral-job-1-a2-0.my-training:29500"
    assert value_after(args, "--rdzv-id") == "corral-job-1-a2"
    assert value_after(args, "--node-rank") == "$(JOB_COMPLETION_INDEX)"
    assert value_after(args, "--rank") == "$(JOB_COMPLETION_INDEX)"


def test_the_hash_is_of_everything_that_is_asked() -> None:
    def hash_of(**given: Any) -> str:
        found = manifest_of(**given)["metadata"]["annotations"]["corral.dev/run-hash"]
        assert isinstance(found, str)
        return found

    assert hash_of() == hash_of()
    others = [
        hash_of(processes=2),
        hash_of(processes=2, nodes=2),
        hash_of(options={"stop_seconds": 1}),
        hash_of(options={"queue": "gpus"}),
        hash_of(template={**TEMPLATE, "spec": {**TEMPLATE["spec"], "tolerations": []}}),
    ]
    assert len({hash_of(), *others}) == 6


async def test_every_field_is_one_that_the_api_knows() -> None:
    manifest = manifest_of(
        options={"queue": "gpus", "deadline_seconds": 60, "gpus_per_process": 1},
        processes=4,
        nodes=2,
    )
    async with ApiClient() as client:
        # Reading drops what the API's own models do not have.
        read = client.deserialize(json.dumps(manifest), "V1Job", "application/json")
        assert client.sanitize_for_serialization(read) == manifest


@pytest.mark.parametrize("job", ["j" * 63, "a-very-long-id-" * 4 + "xyz", "job-"])
def test_any_id_gives_a_name_and_a_label_that_kubernetes_takes(job: str) -> None:
    name, label = job_name(job, 12), label_of(job)
    assert len(f"{name}-1023") <= 63
    assert name.startswith("corral-")
    assert name.endswith("-a12")
    assert len(label) <= 63
    assert label[-1].isalnum()


def test_long_ids_that_begin_alike_get_names_of_their_own() -> None:
    assert job_name("j" * 62 + "a", 1) != job_name("j" * 62 + "b", 1)
    assert job_name("j" * 63, 1) != job_name("j" * 63, 2)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    "text",
    [
        "spec: {containers: [{name: training}]}",
        "kind: Pod\nspec: {containers: [{name: training}]}",
        "kind: PodTemplate\ntemplate: {spec: {containers: [{name: training}]}}",
        "metadata:\nspec: {containers: [{name: x}, {name: training}]}",
    ],
)
def test_a_template_may_be_written_in_several_ways(tmp_path: Path, text: str) -> None:
    file = tmp_path / "train-pod.yaml"
    file.write_text(text)
    manifest = manifest_of(read_template(file))
    assert training(manifest)["args"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec: {containers: [{name: main}]}", "no container named 'training' .*main"),
        ("spec: {containers: []}", "no container named 'training' .*none"),
        ("spec: {}", "no container named 'training'"),
        ("", "no spec of a pod"),
        ("[1, 2]", "no spec of a pod"),
        ("metadata: {}", "no spec of a pod"),
        ("spec: {", "not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_template_that_can_not_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "train-pod.yaml"
    file.write_text(text)
    with pytest.raises(LaunchError, match=said) as caught:
        read_template(file)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_a_template_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="can't be read") as caught:
        read_template(tmp_path / "nowhere.yaml")
    assert "CORRAL_KUBERNETES_POD_TEMPLATE" in caught.value.hint


def value_after(args: list[str], flag: str) -> str:
    return args[args.index(flag) + 1]
