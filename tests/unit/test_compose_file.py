"""docker-compose.yml and what is mounted into it agree with each other and with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from corral.settings import (
    DEFAULT_GATEWAY_PORT,
    DEFAULT_INFERENCE_PORT,
    DEFAULT_TRAINER_PORT,
    Settings,
)

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


SERVICES: dict[str, Any] = load("docker-compose.yml")["services"]


def own_services() -> dict[str, Any]:
    """Those that run this repository's images and stay."""
    return {
        name: service
        for name, service in SERVICES.items()
        if service["image"].startswith("corral-") and service["restart"] != "no"
    }


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration.removesuffix("s"))


def test_every_container_is_hardened_and_has_a_limit() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) >= 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_clients_find_the_ports_that_they_look_for_by_default() -> None:
    (trainer,) = SERVICES["trainer"]["ports"]
    (inference,) = SERVICES["inference"]["ports"]
    assert trainer.endswith(f":-{DEFAULT_TRAINER_PORT}}}:{DEFAULT_TRAINER_PORT}")
    assert inference.endswith(f":-{DEFAULT_INFERENCE_PORT}}}:{DEFAULT_INFERENCE_PORT}")
    (gateway,) = SERVICES["gateway"]["ports"]
    assert gateway.endswith(f":-{DEFAULT_GATEWAY_PORT}}}:{DEFAULT_GATEWAY_PORT}")


def test_a_container_is_not_killed_before_its_process_has_drained() -> None:
    settings = Settings()
    for name, service in own_services().items():
        needed = settings.stop_seconds if "worker" in name else settings.drain_seconds
        assert seconds(service["stop_grace_period"]) > needed, name


def test_every_setting_that_a_container_gets_is_one_that_exists() -> None:
    known = {f"CORRAL_{field.upper()}" for field in Settings.model_fields}
    # Modal's own, which its client reads.
    known |= {"MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"}
    for name, service in own_services().items():
        assert set(service["environment"]) <= known, name


def test_every_variable_has_its_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = set(re.findall(r"^#?(\w+)=", example, re.MULTILINE))
    # Images and ports of what is not ours have defaults that few would change.
    foreign = {name for name in used if name.startswith(("GRAFANA_", "PROMETHEUS_", "REDIS_IMAGE"))}
    assert used - foreign <= listed
    assert listed - used == {"COMPOSE_PROFILES"}


def test_prometheus_reads_every_service_of_ours() -> None:
    (scrape,) = load("deploy/monitoring/prometheus.yml")["scrape_configs"]
    (names,) = scrape["dns_sd_configs"]
    assert set(names["names"]) == set(own_services())
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert f"CORRAL_METRICS_PORT={names['port']}" in dockerfile


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    (provider,) = load("deploy/monitoring/grafana/dashboards/corral.yml")["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/dashboards"] == provider["options"]["path"]
    assert (ROOT / "deploy" / "dashboards" / "corral.json").is_file()
