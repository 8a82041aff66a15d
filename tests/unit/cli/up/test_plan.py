from __future__ import annotations

import socket
from pathlib import Path

import pytest

from corral.cli.up.plan import child_environment, choose_ports, make_plan, stages
from corral.errors import ConflictError, InvalidRequestError
from corral.settings import Settings

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def no_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "CORRAL_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_port_0_becomes_free_ports() -> None:
    found = choose_ports(HOST, (0, 0, 0))

    assert len(set(found)) == 3
    for port in found:
        socket.create_server((HOST, port)).close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConflictError, match=str(port)):
            choose_ports(HOST, (port, 0))


def test_inference_and_gateway_take_the_ports_after_the_trainers(tmp_path: Path) -> None:
    free = max(choose_ports(HOST, (0, 0)))
    while True:
        try:
            plan = make_plan(Settings(), tmp_path, HOST, free)
            break
        except ConflictError:
            free += 1

    assert (plan.server, plan.inference) == (f"{HOST}:{free}", f"{HOST}:{free + 1}")
    assert plan.gateway == f"{HOST}:{free + 2}"


@pytest.mark.parametrize("port", [65534, 65535])
def test_the_last_ports_leave_none_for_the_gateway(tmp_path: Path, port: int) -> None:
    with pytest.raises(InvalidRequestError, match=str(port)):
        make_plan(Settings(), tmp_path, HOST, port)


def test_a_host_that_is_not_of_this_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises((InvalidRequestError, ConflictError), match=r"192\.0\.2\.1"):
        make_plan(Settings(), tmp_path, "192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "is_loopback"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_only_loopback_is_out_of_reach_of_other_machines(
    tmp_path: Path, host: str, is_loopback: bool
) -> None:
    assert make_plan(Settings(), tmp_path, host, 0).is_loopback is is_loopback


def test_clients_reach_a_server_on_all_addresses_by_loopback(tmp_path: Path) -> None:
    plan = make_plan(Settings(), tmp_path, "0.0.0.0", 0)

    assert plan.server == f"127.0.0.1:{plan.trainer_port}"


def names(tmp_path: Path, settings: Settings) -> list[list[str]]:
    plan = make_plan(settings, tmp_path, HOST, 0)
    return [[spec.name for spec in stage] for stage in stages(plan, settings)]


def test_redis_comes_first_and_the_worker_last(tmp_path: Path) -> None:
    assert names(tmp_path, Settings()) == [
        ["redis"],
        ["trainer", "inference"],
        ["worker", "gateway"],
    ]


def test_a_redis_of_ones_own_takes_the_place_of_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://db.example:6379/3")
    settings = Settings()

    assert names(tmp_path, settings) == [["trainer", "inference"], ["worker", "gateway"]]
    worker = stages(make_plan(settings, tmp_path, HOST, 0), settings)[-1][0]
    assert worker.environment["CORRAL_REDIS_URL"] == "redis://db.example:6379/3"


def test_the_children_read_the_plan_from_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Settings(), tmp_path, HOST, 0)
    for name, value in child_environment(plan, "unix:///redis.sock").items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.data == tmp_path
    assert (settings.host, settings.trainer_port) == (HOST, plan.trainer_port)
    assert settings.inference_port == plan.inference_port
    assert (settings.server, settings.gateway_port) == (plan.server, plan.gateway_port)
    assert settings.redis_url == "unix:///redis.sock"
