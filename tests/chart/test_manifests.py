"""What the chart makes, whatever the values: one statement a test, held for all examples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests.rendered_chart import (
    CHART,
    ROOT,
    VARIANTS,
    containers,
    environment,
    flags,
    helm,
    of_kind,
    pod_template,
    pod_templates,
    render,
    train_pod,
)

from corral.launchers.kubernetes.manifest import JobOptions, job_manifest
from corral.launchers.kubernetes.template import read_template
from corral.run import TrainingRun
from corral.settings import Settings
from corral.spec import TrainingSpec

RESTRICTED_VOLUMES = {"persistentVolumeClaim", "emptyDir", "configMap", "secret", "projected"}
for_all_variants = pytest.mark.parametrize("variant", VARIANTS)


@for_all_variants
def test_helm_lint_has_nothing_to_say(variant: str) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHART), *flags(variant))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@for_all_variants
def test_no_environment_variable_is_set_twice(variant: str) -> None:
    """Server-side apply refuses that."""
    for name, container in containers(render(variant)):
        names = [one["name"] for one in container["env"]]
        assert [one for one, count in Counter(names).items() if count > 1] == [], name


def test_a_variable_of_the_user_replaces_the_charts_own_whatever_their_kinds() -> None:
    settings = (
        'trainer.env={"CORRAL_LOG_LEVEL": "debug", "CORRAL_DRAIN_SECONDS": "3"}',
        'inference.env={"CORRAL_REDIS_URL": {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}}',
    )
    manifests = render("", *settings)
    trainer = environment(pod_template(manifests, "trainer")["spec"]["containers"][0])
    assert (trainer["CORRAL_LOG_LEVEL"], trainer["CORRAL_DRAIN_SECONDS"]) == ("debug", "3")
    inference = environment(pod_template(manifests, "inference")["spec"]["containers"][0])
    assert inference["CORRAL_REDIS_URL"] == {"configMapKeyRef": {"name": "c", "key": "k"}}


@for_all_variants
def test_every_pod_satisfies_pod_security_restricted(variant: str) -> None:
    for name, template in pod_templates(render(variant)):
        spec = template["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == (999 if name == "redis" else 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        volumes = spec.get("volumes", ())
        kinds = {kind for volume in volumes for kind in volume if kind != "name"}
        assert kinds <= RESTRICTED_VOLUMES


@for_all_variants
def test_every_container_gives_up_what_it_does_not_need(variant: str) -> None:
    for name, container in containers(render(variant)):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "procMount"} & security.keys()
        assert container["resources"]["limits"]["memory"]


@for_all_variants
def test_only_the_dispatcher_has_a_token_for_the_api_server(variant: str) -> None:
    manifests = render(variant)
    with_token = {
        name
        for name, template in pod_templates(manifests)
        if template["spec"]["automountServiceAccountToken"]
    }
    makes_no_jobs = variant in ("one-gpu-node", "modal")
    assert with_token == (set() if makes_no_jobs else {"worker"})
    for account in of_kind(manifests, "ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


@for_all_variants
def test_servers_tell_their_health_themselves_and_never_ask_redis_for_it(variant: str) -> None:
    manifests = render(variant)
    for name, grpc in (
        ("trainer", {"port": 7470, "service": "corral.v1.Trainer"}),
        ("inference", {"port": 7471, "service": "corral.v1.Inference"}),
    ):
        (container,) = pod_template(manifests, name)["spec"]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == grpc


@for_all_variants
def test_every_selector_finds_the_pods_that_it_is_meant_for(variant: str) -> None:
    manifests = render(variant)
    labels = {name: template["metadata"]["labels"] for name, template in pod_templates(manifests)}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    for name, service in of_kind(manifests, "Service").items():
        last = name.removeprefix("corral").removeprefix("-")
        clients = {"trainer", "inference", "web"}
        everyone = {"": clients, "metrics": {*clients, "worker"}}
        assert found(service["spec"]["selector"]) == everyone.get(last, {last})
    for name, budget in of_kind(manifests, "PodDisruptionBudget").items():
        selector = budget["spec"]["selector"]["matchLabels"]
        assert found(selector) == {name.removeprefix("corral-")}
        # minAvailable 1 of 1 would block a drain for ever.
        assert budget["spec"]["maxUnavailable"] == 1


def test_redis_has_every_write_on_disk_before_it_answers() -> None:
    (container,) = pod_template(render(), "redis")["spec"]["containers"]
    settings = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert settings["--appendonly"] == "yes"
    assert settings["--appendfsync"] == "always"
    assert settings["--maxmemory-policy"] == "noeviction"
    assert settings["--dir"] == container["volumeMounts"][0]["mountPath"]


def test_what_holds_jobs_and_checkpoints_outlives_an_uninstall() -> None:
    manifests = render()
    kept = {"helm.sh/resource-policy": "keep"}
    assert (
        of_kind(manifests, "PersistentVolumeClaim")["corral-data"]["metadata"]["annotations"]
        == kept
    )
    assert of_kind(manifests, "Secret")["corral-redis"]["metadata"]["annotations"] == kept
    redis = of_kind(manifests, "StatefulSet")["corral-redis"]["spec"]
    assert redis["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


def test_a_new_chart_version_alone_restarts_nothing() -> None:
    """A worker that restarts stops its run."""
    for _, template in pod_templates(render()):
        labels = template["metadata"].get("labels", {})
        if template.get("kind") != "Pod":
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


def test_an_external_redis_takes_the_place_of_our_own() -> None:
    manifests = render("existing-redis")
    assert not of_kind(manifests, "StatefulSet")
    assert not of_kind(manifests, "Secret")
    for name in ("trainer", "inference", "worker"):
        (container,) = pod_template(manifests, name)["spec"]["containers"]
        reference = environment(container)["CORRAL_REDIS_URL"]["secretKeyRef"]
        assert reference == {"name": "corral-redis-url", "key": "url"}


def test_an_autoscaler_alone_sets_the_number_of_pods() -> None:
    scaled = render("several-gpu-nodes-kueue")
    assert "replicas" not in of_kind(scaled, "Deployment")["corral-inference"]["spec"]
    target = of_kind(scaled, "HorizontalPodAutoscaler")["corral-inference"]["spec"]
    assert target["scaleTargetRef"]["name"] == "corral-inference"
    assert of_kind(render(), "Deployment")["corral-inference"]["spec"]["replicas"] == 1


# ---------------------------------------------------------------- training


def test_the_training_pod_is_complete_but_for_what_depends_on_the_run() -> None:
    template = train_pod(render())
    assert template["metadata"]["labels"] == {
        "app.kubernetes.io/name": "corral",
        "app.kubernetes.io/instance": "corral",
        "app.kubernetes.io/component": "training",
    }
    (container,) = template["spec"]["containers"]
    assert container["name"] == "training"
    assert not {"command", "args"} & container.keys()
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes[mounts["/data"]]["persistentVolumeClaim"] == {"claimName": "corral-data"}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_the_launcher_makes_a_job_of_the_training_pod(tmp_path: Path) -> None:
    manifests = render()
    (tmp_path / "train-pod.yaml").write_text(yaml.safe_dump(train_pod(manifests)))
    options = JobOptions(
        namespace="ns",
        service="corral-training",
        gpus_per_process=1,
        queue="",
        deadline_seconds=0,
        stop_seconds=60,
    )
    spec = TrainingSpec(processes=4, nodes=2)
    run = TrainingRun(job_id="job-1", attempt=1, dataset_id="0" * 64, spec=spec)
    template = read_template(tmp_path / "train-pod.yaml")
    run_file = Path("/data/runs/job-1/a1/run.json")
    pod = job_manifest(template, run_file, run, options, ["torchrun"])["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "2"}
    # What the headless service and the network policies find the pods by, launcher or not.
    service = of_kind(manifests, "Service")["corral-training"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]


@for_all_variants
def test_a_training_pod_knows_nothing_of_redis(variant: str) -> None:
    for name, container in containers(render(variant)):
        if name == "training":
            assert not [one for one in environment(container) if "REDIS" in one]


def test_whatever_an_operator_says_of_training_pods_is_in_them() -> None:
    settings = (
        'training.nodeSelector={"gpu": "h100"}',
        'training.affinity={"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}',
        "training.priorityClassName=batch",
        "training.runtimeClassName=nvidia",
        'training.nccl={"NCCL_SOCKET_IFNAME": "eth0"}',
        'training.env={"TOKENIZERS_PARALLELISM": "false"}',
        'training.podAnnotations={"sidecar.istio.io/inject": "false"}',
        'training.extraContainers=[{"name": "log", "image": "log:1"}]',
        'image.pullSecrets=[{"name": "registry"}]',
    )
    template = train_pod(render("several-gpu-nodes-kueue", *settings))
    spec = template["spec"]
    assert spec["nodeSelector"]["gpu"] == "h100"
    assert "podAffinity" in spec["affinity"]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("batch", "nvidia")
    assert spec["topologySpreadConstraints"][0]["matchLabelKeys"] == ["corral.dev/job"]
    assert [container["name"] for container in spec["containers"]] == ["training", "log"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    variables = environment(spec["containers"][0])
    assert variables["NCCL_SOCKET_IFNAME"] == "eth0"
    assert variables["TOKENIZERS_PARALLELISM"] == "false"


def test_the_dispatcher_is_told_where_its_template_service_and_queue_are() -> None:
    manifests = render("several-gpu-nodes-kueue")
    template = pod_template(manifests, "worker")
    (container,) = template["spec"]["containers"]
    variables = environment(container)
    told = {name: value for name, value in variables.items() if "KUBERNETES" in name}
    assert variables["CORRAL_LAUNCHER"] == "kubernetes"
    assert told == {
        "CORRAL_KUBERNETES_POD_TEMPLATE": "/etc/corral/train-pod.yaml",
        "CORRAL_KUBERNETES_SERVICE": "corral-training",
        "CORRAL_KUBERNETES_GPUS_PER_PROCESS": "1",
        "CORRAL_KUBERNETES_QUEUE": "corral",
        "CORRAL_KUBERNETES_DEADLINE_SECONDS": "604800",
    }
    service = of_kind(manifests, "Service")["corral-training"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    # The volume, not a file of it: a changed template must reach a worker that runs.
    mount = next(one for one in container["volumeMounts"] if one["mountPath"] == "/etc/corral")
    assert "subPath" not in mount


def test_a_local_worker_trains_in_its_own_pod_with_what_that_needs() -> None:
    manifests = render("one-gpu-node")
    assert {name for name, _ in pod_templates(manifests)} == {
        "trainer",
        "inference",
        "web",
        "worker",
        "redis",
        "test",
    }
    template = pod_template(manifests, "worker")["spec"]
    (container,) = template["containers"]
    assert container["image"] == "corral-train:0.1.0"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "/dev/shm" in {mount["mountPath"] for mount in container["volumeMounts"]}
    variables = environment(container)
    assert variables["CORRAL_LAUNCHER"] == "local"
    assert variables["NCCL_DEBUG"] == "WARN"
    assert template["shareProcessNamespace"] is True


def test_a_worker_of_modal_needs_neither_torch_nor_the_api_server() -> None:
    manifests = render("modal", "modal.environment=staging", "modal.cpu=8")
    assert "training" not in {name for name, _ in pod_templates(manifests)}
    (container,) = pod_template(manifests, "worker")["spec"]["containers"]
    assert container["image"] == "corral-trainer:0.1.0"
    variables = environment(container)
    assert variables["CORRAL_LAUNCHER"] == "modal"
    assert variables["CORRAL_WORKER_JOBS"] == "20"
    assert variables["CORRAL_MODAL_ENVIRONMENT"] == "staging"
    assert variables["CORRAL_MODAL_CPU"] == "8"
    assert not [name for name in variables if "KUBERNETES" in name]


@for_all_variants
def test_the_trainer_knows_where_runs_run(variant: str) -> None:
    """Else it would judge whether a run fits by its own memory."""
    manifests = render(variant)
    trainer, worker = (
        environment(pod_template(manifests, name)["spec"]["containers"][0])
        for name in ("trainer", "worker")
    )
    for name in ("CORRAL_LAUNCHER", "CORRAL_MODAL_CPU", "CORRAL_MODAL_MEMORY_MIB"):
        assert trainer.get(name) == worker.get(name)


@for_all_variants
def test_a_worker_has_longer_to_end_than_its_run_has_to_save(variant: str) -> None:
    template = pod_template(render(variant), "worker")["spec"]
    stop = int(environment(template["containers"][0])["CORRAL_STOP_SECONDS"])
    assert template["terminationGracePeriodSeconds"] > stop


# ---------------------------------------------------------------- switches


@for_all_variants
def test_a_server_has_longer_to_end_than_its_streams_have_to_finish(variant: str) -> None:
    manifests = render(variant)
    for name in ("trainer", "inference"):
        pod = pod_template(manifests, name)["spec"]
        assert pod["terminationGracePeriodSeconds"] > Settings().drain_seconds, name


def test_images_are_named_by_registry_repository_and_tag() -> None:
    settings = ("image.registry=ghcr.io/you", "image.tag=1.2.3", "trainer.image.tag=9.0.1")
    images = {name: one["image"] for name, one in containers(render("", *settings))}
    assert images == {
        "trainer": "ghcr.io/you/corral-trainer:9.0.1",
        "worker": "ghcr.io/you/corral-trainer:9.0.1",
        "test": "ghcr.io/you/corral-trainer:9.0.1",
        "inference": "ghcr.io/you/corral-inference:1.2.3",
        "web": "ghcr.io/you/corral-gateway:1.2.3",
        "training": "ghcr.io/you/corral-train:1.2.3",
        "redis": "redis:7-bookworm",
    }


def test_ingress_and_gateway_lead_each_grpc_service_to_its_own_pods() -> None:
    settings = ("ingress.enabled=true", "ingress.host=corral.example.org")
    manifests = render("several-gpu-nodes-kueue", *settings)
    ingresses = of_kind(manifests, "Ingress")
    (rule,) = ingresses["corral-entry"]["spec"]["rules"]
    assert rule["host"] == "corral.example.org"
    by_path = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    (route,) = of_kind(manifests, "GRPCRoute").values()
    by_service = {
        f"/{one['matches'][0]['method']['service']}": one["backendRefs"][0]["name"]
        for one in route["spec"]["rules"]
    }
    expected = {
        "/corral.v1.Trainer": "corral-trainer",
        "/corral.v1.Inference": "corral-inference",
    }
    assert by_path == by_service == expected
    # Everything else is OpenAI's API and the console.
    (rule,) = ingresses["corral-web"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    (route,) = of_kind(manifests, "HTTPRoute").values()
    ((backend,),) = (one["backendRefs"] for one in route["spec"]["rules"])
    assert (rule["host"], path["path"]) == ("corral.example.org", "/")
    assert path["backend"]["service"]["name"] == backend["name"] == "corral-web"


def test_the_gateway_has_no_part_in_redis_or_the_volume() -> None:
    spec = pod_template(render(), "web")["spec"]
    (container,) = spec["containers"]
    assert {volume["name"] for volume in spec["volumes"]} == {"tmp"}
    assert "CORRAL_REDIS_URL" not in {one["name"] for one in container["env"]}
    variables = environment(container)
    assert variables["CORRAL_SERVER"] == "corral:7470"
    assert variables["CORRAL_INFERENCE_ADDRESS"] == "corral:7471"
    assert container["readinessProbe"]["httpGet"] == {"port": 7472, "path": "/healthz"}


def test_the_gateway_may_be_left_out() -> None:
    manifests = render("", "web.enabled=false")
    assert "web" not in {name for name, _ in pod_templates(manifests)}
    assert not [
        name
        for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget")
        for name in of_kind(manifests, kind)
        if name.endswith("web")
    ]


def test_the_dashboard_is_the_one_that_compose_shows() -> None:
    """A copy, since a chart ships only its own files: cp deploy/dashboards/corral.json
    charts/corral/files/dashboard.json
    """
    config = of_kind(render("several-gpu-nodes-kueue"), "ConfigMap")["corral-dashboard"]
    ours = json.loads((ROOT / "deploy" / "dashboards" / "corral.json").read_text())
    assert json.loads(config["data"]["corral.json"]) == ours


def test_inference_puts_the_base_models_of_its_image_onto_the_volume_for_the_trainer() -> None:
    spec = pod_template(render(), "inference")["spec"]
    (first,) = spec["initContainers"]
    assert first["command"] == ["python", "-m", "corral.bases"]
    assert first["image"] == spec["containers"][0]["image"]
    assert "/data" in {mount["mountPath"] for mount in first["volumeMounts"]}


def test_monitoring_is_there_when_it_is_asked_for() -> None:
    manifests = render("several-gpu-nodes-kueue")
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    service = of_kind(manifests, "Service")["corral-metrics"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert not of_kind(render(), "ServiceMonitor")


def test_without_the_model_hub_nothing_tries_to_reach_it() -> None:
    for name, container in containers(render("", "modelHub.enabled=false")):
        if name in ("trainer", "inference", "worker", "training"):
            assert environment(container)["HF_HUB_OFFLINE"] == "1"


def test_a_token_for_the_hub_reaches_whatever_downloads() -> None:
    for name, container in containers(render("", "modelHub.tokenSecret=hub")):
        if name in ("trainer", "inference", "training"):
            reference = environment(container)["HF_TOKEN"]["secretKeyRef"]
            assert reference == {"name": "hub", "key": "token"}
