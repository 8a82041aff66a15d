"""Sends a run to Modal: its volume with all that it reads, then the call that works on it.

Knows nothing of runs that are there already, or of how one goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from corral.launchers.modal.following import Pace, Price
from corral.launchers.modal.functions import Functions
from corral.launchers.modal.gpus import gpus_of
from corral.launchers.modal.handle import JobVolume, ModalHandle
from corral.launchers.modal.order import OWNER_NAME, Order, Owner
from corral.launchers.modal.prices import Machine, Rates, check_budget
from corral.launchers.modal.profile import LaunchProfile
from corral.launchers.modal.sync import BaseFolder, send
from corral.launchers.modal.volumes import Volumes
from corral.run import TrainingRun
from corral.volume import Volume

# From a run file to the command line that trains; the container adds its own run file's path.
CommandBuilder = Callable[[Path, TrainingRun], list[str]]


@dataclass(frozen=True)
class ModalOptions:
    """What is the same for every run of a deployment. `data` is its volume here, `deployment` tells
    its remote volumes from others'.
    """

    data: Path
    deployment: str
    machine: Machine
    stop_seconds: float
    pace: Pace = field(default_factory=Pace)

    def price(self, rates: Rates) -> Price:
        """From GPUs as Modal names them (`A10:2`) to US dollars a second."""
        return lambda gpu: rates.by_name([gpu], self.machine).get(gpu)


class Spawner:
    """Of one deployment."""

    def __init__(
        self,
        functions: Functions,
        volumes: Volumes,
        options: ModalOptions,
        command_builder: CommandBuilder | None = None,
    ) -> None:
        self._functions = functions
        self._volumes = volumes
        self._options = options
        self._command_builder = command_builder

    async def spawn(self, run_file: Path, run: TrainingRun, rates: Rates) -> ModalHandle:
        """Queue a call for the run. Raises SpecError where its spec does not fit Modal, and as sending
        and calling do.
        """
        spec, options = run.spec, self._options
        choices = gpus_of(spec)
        check_budget(spec.max_cost, choices, rates)
        home = Volume.of_run_file(run_file)
        base = BaseFolder.of(spec.model, home)
        order = Order(
            run=run.model_dump(mode="json"),
            token=secrets.token_hex(16),
            volume=str(JobVolume(options.deployment, run.job_id)),
            gpus=tuple(map(str, choices)),
            rates=rates.by_name(map(str, choices), options.machine),
            timeout_seconds=spec.timeout_hours * 3600,
            stop_seconds=run.stop_seconds or options.stop_seconds,
            look_seconds=options.pace.look_seconds,
            max_cost=spec.max_cost,
            model_folder=base.here if base is not None else "",
            model_on_volume=base.remote if base is not None else "",
            command=tuple(self._command_builder(run_file, run)) if self._command_builder else (),
        )
        profile = await asyncio.to_thread(LaunchProfile.of, choices, options.machine)
        await self._volumes.ensure(order.volume)
        await send(self._volumes, order.volume, home, run)
        # Before the call is there: no container ever reads an older one.
        await self._volumes.write(order.volume, {OWNER_NAME: Owner(order.token).to_json()})
        spawned_at = time.time()
        call = await self._functions.spawn(
            profile, order.volume, order.to_json(), order.timeout_seconds
        )
        return ModalHandle(
            app=profile.app_name,
            call=call,
            volume=order.volume,
            attempt=run.attempt,
            token=order.token,
            spawned_at=spawned_at,
            keep_volume=spec.keep_volume,
            folder=run_file.parent,
        )
