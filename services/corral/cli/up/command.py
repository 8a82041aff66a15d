"""The `corral up` command: the lock, the plan, the supervisor, and what a person is told.

Knows nothing of how a process is kept running.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral import formatting
from corral.cli import output
from corral.cli.flags import default_of
from corral.errors import UnavailableError
from corral.run import LineTail
from corral.settings import Settings, load_settings

if TYPE_CHECKING:
    from corral.cli.up.lock import FolderLock
    from corral.cli.up.plan import Plan

_LARGEST_PORT = 65535
_LOOK_AGAIN_SECONDS = 0.2
# What children of a killed `corral up` may need beyond a run's own time to save and end.
_LAST_ONES_EXTRA_SECONDS = 20.0


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"The data folder, else CORRAL_DATA. {default_of(Settings, 'data')}"
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help=f"The address to listen on, else CORRAL_HOST. {default_of(Settings, 'host')}"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LARGEST_PORT,
            metavar="N",
            help="The trainer's port; inference and the gateway take the next two. 0: free ones. "
            + default_of(Settings, "trainer_port"),
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all logs here.")] = False,
) -> None:
    """Run all of Corral on this machine until Ctrl-C: Redis, trainer, worker, inference, gateway.

    DIR/up.json names its addresses while it is ready.
    """
    from corral.cli.up.lock import FolderLock
    from corral.cli.up.plan import make_plan

    _check_installed()
    settings = load_settings()
    folder = (data or settings.data).expanduser().absolute()
    patience = settings.stop_seconds + _LAST_ONES_EXTRA_SECONDS
    lock = FolderLock.acquire(folder, patience, _say)
    try:
        plan = make_plan(settings, data, host, port)
        lock.describe(plan.server)
        if not plan.is_loopback:
            _warn_of_open_door(plan.host)
        asyncio.run(_run(plan, settings, lock, verbose=verbose))
    finally:
        lock.release()


async def _run(plan: Plan, settings: Settings, lock: FolderLock, *, verbose: bool) -> None:
    from corral.cli.up.leftovers import end_runs
    from corral.cli.up.plan import stages
    from corral.cli.up.supervisor import Supervisor

    shutdown, force = _on_signals()
    planned = stages(plan, settings)
    logs = [spec.log for stage in planned for spec in stage]
    _put_old_logs_aside(logs)
    showing = asyncio.create_task(_show_logs(logs if verbose else []))

    def ready() -> None:
        _write_status(plan)
        _tell(plan)

    try:
        if plan.redis_url is not None:
            await _ping(plan.redis_url)
        _say(f"Starting Corral on {plan.data} ...")
        await Supervisor(planned, _say, [lock.descriptor]).run(shutdown, force, ready)
    finally:
        plan.status_file.unlink(missing_ok=True)
        showing.cancel()
        if ended := await end_runs(plan.data):
            _say(f"Ended {formatting.count(ended, 'training run')} whose worker was killed.")
    _say("Stopped.")


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events of the first and the second wish to end."""
    shutdown, force = asyncio.Event(), asyncio.Event()

    def asked() -> None:
        if shutdown.is_set():
            force.set()
            return
        shutdown.set()
        _say("\nStopping; a run saves a checkpoint first. Ctrl-C once more kills.")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    return shutdown, force


async def _ping(redis_url: str) -> None:
    from corral.jobs.connection import RedisConnection

    connection = RedisConnection(redis_url, "corral")
    try:
        with connection.translated_errors():
            await connection.commands.ping()
    finally:
        await connection.close()


# ---------------------------------------------------------------- what a person and scripts are told


def _tell(plan: Plan) -> None:
    redis = "your own, REDIS_URL" if plan.redis_url else "embedded"
    used = "" if plan.is_default else f" --server {plan.server}"
    _say(
        output.fields(
            [
                ("trainer", plan.server),
                ("inference", plan.inference),
                ("gateway", f"http://{plan.gateway}"),
                ("redis", redis),
                ("data", str(plan.data)),
                ("logs", str(plan.logs)),
            ]
        )
    )
    _say("\nReady. Ctrl-C stops all of it. In another terminal:")
    _say(f"  corral train FILE --model gpt2{used}")
    _say(f"  corral models list{used}")
    _say(f"  corral chat MODEL{used}")


def _write_status(plan: Plan) -> None:
    """Write the addresses for scripts, whole or not at all."""
    content = {
        "pid": os.getpid(),
        "server": plan.server,
        "inference": plan.inference,
        "gateway": f"http://{plan.gateway}",
    }
    temporary = plan.status_file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(plan.status_file)


def _warn_of_open_door(host: str) -> None:
    _say(
        f"warning: {host} can be reached from other machines, and there is no authentication yet:"
        " whoever reaches the ports can train, delete and chat."
    )


def _say(text: str) -> None:
    # The terminal may be gone (SIGHUP); that must not keep anything from being stopped.
    with suppress(OSError):
        output.say(text)


# ---------------------------------------------------------------- logs


def _put_old_logs_aside(logs: list[Path]) -> None:
    """Keep the logs of the last time beside those of this time, and none before."""
    for log in logs:
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))


async def _show_logs(logs: list[Path]) -> None:
    """Say each new line of the logs, with its process' name, until cancelled."""
    tails = [(log.stem, LineTail(log)) for log in logs]
    width = max((len(name) for name, _ in tails), default=0)
    while tails:
        for name, tail in tails:
            for line in tail.new_lines():
                _say(f"{name.ljust(width)} | {line}")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _check_installed() -> None:
    """Raises UnavailableError where what the services import is not installed."""
    missing = [
        name
        for name in (
            "fastapi",
            "grpc_health",
            "redis",
            "structlog",
            "torch",
            "transformers",
            "uvicorn",
        )
        if find_spec(name) is None
    ]
    if missing:
        raise UnavailableError(
            f"corral up needs what is not installed: {', '.join(missing)}.",
            "Install all of it: pip install 'corral[services,tensors,gateway,local]'",
        )
