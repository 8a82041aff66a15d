"""What `corral up` starts, on which ports, with which environment.

Values only: nothing is started here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.up.child import ChildSpec
from corral.cli.up.supervisor import Stages
from corral.errors import ConflictError, InvalidRequestError, UnavailableError
from corral.settings import Settings
from corral.trainer.worker.grace import MOST_SECONDS
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.jobs.embedded import EmbeddedRedis

_LARGEST_PORT = 65535
# Importing torch from a cold disk takes its time, and so does a long append-only file.
READY_SECONDS = 180.0
# A worker that has lived so long has read its settings and found what it imports.
_SETTLED_SECONDS = 1.0
_STOP_EXTRA_SECONDS = 15.0
_REDIS_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Plan:
    """Where everything is. `server`, `inference` and `gateway` are addresses for clients on this
    machine.
    """

    data: Path
    host: str
    trainer_port: int
    inference_port: int
    gateway_port: int
    # None: start an embedded one.
    redis_url: str | None
    # Whether clients find the server without being told where.
    is_default: bool

    @property
    def server(self) -> str:
        return _join(_reachable(self.host), self.trainer_port)

    @property
    def inference(self) -> str:
        return _join(_reachable(self.host), self.inference_port)

    @property
    def gateway(self) -> str:
        return _join(_reachable(self.host), self.gateway_port)

    @property
    def status_file(self) -> Path:
        """Where scripts find the addresses, while all is ready."""
        return self.data / "up.json"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def make_plan(settings: Settings, data: Path | None, host: str | None, port: int | None) -> Plan:
    """Settings and flags together; ports that are 0 become free ones.

    Raises ConflictError naming a port that is taken.
    """
    folder = (data or settings.data).expanduser().absolute()
    address = host or settings.host
    trainer, inference, gateway = choose_ports(address, _wanted_ports(settings, port))
    redis_url = settings.redis_url if "redis_url" in settings.model_fields_set else None
    plan = Plan(folder, address, trainer, inference, gateway, redis_url, is_default=False)
    return replace(plan, is_default=plan.server == settings.server)


def choose_ports(host: str, wanted: Sequence[int]) -> tuple[int, ...]:
    """The wanted ports, and free ones in place of 0. Raises ConflictError for one that is taken."""
    with ExitStack() as held:
        return tuple(held.enter_context(_bind(host, port)).getsockname()[1] for port in wanted)


def stages(plan: Plan, settings: Settings) -> Stages:
    """Redis, then the services, then the worker and the gateway: stopped in the opposite order, the
    worker can still give its job back when it saves and ends its run.
    """
    from corral.gateway.probe import wait_until_answering
    from corral.jobs.embedded import EmbeddedRedis
    from corral.rpc.health import wait_until_serving

    redis = EmbeddedRedis(Volume(plan.data).redis)
    environment = child_environment(plan, plan.redis_url or redis.url)

    def service(name: str, module: str, address: str) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, "-m", module),
            environment=environment,
            log=plan.logs / f"{name}.log",
            wait_ready=lambda: wait_until_serving(address, READY_SECONDS),
            stop_seconds=settings.drain_seconds + _STOP_EXTRA_SECONDS,
        )

    services = [
        service("trainer", "corral.trainer", plan.server),
        service("inference", "corral.inference", plan.inference),
    ]
    worker = ChildSpec(
        name="worker",
        command=(sys.executable, "-m", "corral.trainer.worker"),
        environment=environment,
        log=plan.logs / "worker.log",
        wait_ready=lambda: asyncio.sleep(_SETTLED_SECONDS),
        # It knows how long its run's saves take, and ends it in time by itself.
        stop_seconds=max(settings.stop_seconds, MOST_SECONDS) + _STOP_EXTRA_SECONDS,
    )
    gateway = ChildSpec(
        name="gateway",
        command=(sys.executable, "-m", "corral.gateway"),
        environment=environment,
        log=plan.logs / "gateway.log",
        wait_ready=lambda: wait_until_answering(plan.gateway, READY_SECONDS),
        stop_seconds=settings.drain_seconds + _STOP_EXTRA_SECONDS,
    )
    last = [worker, gateway]
    if plan.redis_url is not None:
        return [services, last]
    return [[_redis(redis, plan, environment)], services, last]


def child_environment(plan: Plan, redis_url: str) -> Mapping[str, str]:
    """This process' environment, with the plan in it."""
    return {
        **os.environ,
        "CORRAL_DATA": str(plan.data),
        "CORRAL_HOST": plan.host,
        "CORRAL_TRAINER_PORT": str(plan.trainer_port),
        "CORRAL_INFERENCE_PORT": str(plan.inference_port),
        "CORRAL_GATEWAY_PORT": str(plan.gateway_port),
        "CORRAL_SERVER": plan.server,
        "CORRAL_REDIS_URL": redis_url,
        # One worker works on this folder: restarted, it takes its job up again before any other.
        "CORRAL_WORKER_NAME": f"up-{socket.gethostname()}-{plan.data}",
        # All of them would want the one port.
        "CORRAL_METRICS_PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _redis(redis: EmbeddedRedis, plan: Plan, environment: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name="redis",
        command=redis.command(),
        environment=environment,
        log=plan.logs / "redis.log",
        wait_ready=lambda: redis.wait_ready(READY_SECONDS),
        stop_seconds=_REDIS_STOP_SECONDS,
    )


def _wanted_ports(settings: Settings, port: int | None) -> tuple[int, int, int]:
    if port is None:
        return settings.trainer_port, settings.inference_port, settings.gateway_port
    if port > _LARGEST_PORT - 2:
        raise InvalidRequestError(
            f"Port {port} leaves none for inference and the gateway, which take the next two.",
            "Choose a lower one.",
        )
    return (port, port + 1, port + 2) if port else (0, 0, 0)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1)
    except socket.gaierror:
        raise InvalidRequestError(f"{host!r} is not an address of this machine.") from None
    except PermissionError:
        raise UnavailableError(
            f"Not allowed to listen on port {port}.", "Choose one above 1023 with --port."
        ) from None
    except OSError as error:
        # strerror alone: socket's own sentence repeats the address.
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConflictError(
            f"Can't listen on port {port} of {host}: {why}.",
            "Stop what listens there (another corral up?), or choose another with --port.",
        ) from None


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
