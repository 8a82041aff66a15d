"""The values: described, checked, and refused with a reason where they can't work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from deploy.chart_docs import described, readme, resolved, table
from tests.rendered_chart import CHART, refusal, render

from corral import __version__

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFINITIONS: dict[str, Any] = SCHEMA["$defs"]
SERVICE_SHAPE = {
    "image",
    "replicas",
    "resources",
    "nodeSelector",
    "tolerations",
    "affinity",
    "podAnnotations",
    "env",
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below one, with its $ref resolved."""
    for key, given in schema.get("properties", {}).items():
        node = resolved(given, DEFINITIONS)
        yield f"{path}{key}", node
        yield from nodes(node, f"{path}{key}.")


def test_every_value_is_described() -> None:
    assert [path for path, node in nodes(SCHEMA) if not node.get("description")] == []


def test_every_object_says_what_may_be_in_it() -> None:
    """Closed, or a map with a schema for its entries, or, as in a pod, whatever Kubernetes takes."""
    objects = {path: node for path, node in nodes(SCHEMA) if node.get("type") == "object"}
    open_ones = {path for path, node in objects.items() if node["additionalProperties"] is True}
    assert {path.rpartition(".")[2] for path in open_ones} == {
        "global",
        "nodeAffinity",
        "podAffinity",
        "podAntiAffinity",
    }
    assert SCHEMA["additionalProperties"] is False


def test_values_and_schema_name_the_same_values() -> None:
    # Raises KeyError where the schema knows a value that has no default.
    assert len(list(described(VALUES, SCHEMA))) > 100
    for service in ("trainer", "inference", "worker", "training", "redis"):
        assert VALUES[service].keys() == SCHEMA["properties"][service]["properties"].keys()


def test_every_service_has_values_of_the_same_shape() -> None:
    for service in ("trainer", "inference", "worker"):
        assert VALUES[service].keys() >= SERVICE_SHAPE
    # As many training pods as there are runs, and one Redis.
    for service in ("training", "redis"):
        assert VALUES[service].keys() >= SERVICE_SHAPE - {"replicas"}


def test_the_readme_has_the_table_that_the_values_give() -> None:
    text = (CHART / "README.md").read_text()
    assert text == readme(text, table(VALUES, SCHEMA)), "run deploy/chart_docs.py"


def test_the_charts_version_of_corral_is_this_one() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


@pytest.mark.parametrize(
    "setting",
    [
        "trainer.replica=2",
        "wroker.mode=local",
        "training.resources.limit.memory=1Gi",
        "redis.external.url=redis://secret",
        "volume.accessModes=ReadWriteOnce",
    ],
)
def test_an_unknown_value_is_refused_by_name(setting: str) -> None:
    said = refusal(setting)
    name = setting.partition("=")[0]
    assert "additional properties" in said
    assert any(part in said for part in name.split("."))


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("worker.mode=slurm", "worker/mode"),
        ("modal.memoryMiB=16", "modal/memoryMiB"),
        ("trainer.replicas=-1", "trainer/replicas"),
        ("volume.accessMode=ReadWriteOncePod", "volume/accessMode"),
        ("volume.size=lots", "volume/size"),
        ("training.gpusPerProcess=one", "training/gpusPerProcess"),
        ('training.nccl={"DEBUG": "INFO"}', "training/nccl"),
        ("trainer.env.PORT=7470", "trainer/env/PORT"),
        ("metrics.serviceMonitor.interval=often", "metrics/serviceMonitor/interval"),
    ],
)
def test_an_impossible_value_is_refused_with_its_place(setting: str, path: str) -> None:
    assert path in refusal(setting)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["volume.accessMode=ReadWriteOnce"], "lets the pods of one node mount it"),
        (["volume.accessMode=ReadWriteOnce", "worker.mode=local"], "volume.singleNode=true"),
        (
            ["volume.accessMode=ReadWriteOnce", "volume.existingClaim=mine"],
            "storage class with ReadWriteMany",
        ),
        (
            ["redis.external.existingSecret=a", "redis.auth.existingSecret=b"],
            "the password of the chart's own",
        ),
        (["worker.mode=local", "training.queue=gpus"], "Kueue queues the Jobs"),
        (["worker.mode=modal"], "modal.existingSecret (keys token-id and token-secret)"),
        (
            ["inference.autoscaling.enabled=true", "inference.autoscaling.minReplicas=9"],
            "minReplicas is above maxReplicas",
        ),
        (
            ["inference.autoscaling.enabled=true", "inference.resources.requests.cpu=null"],
            "inference.resources.requests.cpu, which is not set",
        ),
        (
            ["metrics.enabled=false", "metrics.serviceMonitor.enabled=true"],
            "nothing to scrape",
        ),
        (["gateway.enabled=true"], "gateway.parentRefs"),
        (["ingress.enabled=true"], "ingress.host"),
    ],
)
def test_values_that_can_not_work_together_are_refused_with_the_reason(
    settings: list[str], reason: str
) -> None:
    assert reason in refusal(*settings)


def test_one_node_may_share_a_volume_that_only_one_node_can_mount() -> None:
    assert render("", "volume.accessMode=ReadWriteOnce", "volume.singleNode=true")
