"""The deployed function and its calls: deploy, spawn, ask, cancel.

Knows nothing of what the function does, or of files.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import modal
from modal import exception as modal_errors

from corral.launchers.modal.client import ANSWER_SECONDS, Connection, translated_errors
from corral.launchers.modal.order import MOUNT
from corral.launchers.modal.profile import FUNCTION_NAME, PYTHON_VERSION, LaunchProfile
from corral.launchers.modal.remote import run_job

LONGEST_TIMEOUT_SECONDS = 24 * 3600
# With the longest timeout about ten days, in which nobody has to look.
_RETRIES = 10


@dataclass(frozen=True)
class Outcome:
    """How a call ended; `result` is what the function returned, None where it did not get to that."""

    result: dict[str, Any] | None = None
    cancelled: bool = False
    detail: str = ""


class Functions:
    """Calls of deployed functions, each by its id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def spawn(
        self,
        profile: LaunchProfile,
        volume: str,
        order: dict[str, Any],
        timeout_seconds: float,
    ) -> str:
        """Queue a call with the job's volume mounted; returns its id at once."""
        client = await self._connection.client()
        function = await self._deployed(profile, client)
        mounted = modal.Volume.from_name(
            volume, environment_name=self._connection.environment, client=client
        )
        with translated_errors("starting the run"):
            bound = function.with_options(
                volumes={MOUNT: mounted}, timeout=max(1, round(timeout_seconds))
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                call = await bound.spawn.aio(MOUNT, order)
        return str(call.object_id)

    async def outcome(self, call: str) -> Outcome | None:
        """How a call ended; None while it is queued or running."""
        client = await self._connection.client()
        with translated_errors("asking for the run"):
            try:
                found = modal.FunctionCall.from_id(call, client=client)
                return Outcome(result=dict(await found.get.aio(timeout=0)))
            except modal_errors.FunctionTimeoutError:
                return Outcome(detail="The run reached Modal's time limit, retries included")
            except modal_errors.InternalFailure as error:
                return Outcome(detail=f"Modal failed internally: {error}")
            except (modal_errors.OutputExpiredError, modal_errors.NotFoundError):
                return Outcome(detail="Modal no longer knows the run")
            except modal_errors.RemoteError as error:
                return Outcome(cancelled=True, detail=f"The call was cancelled: {error}")
            # The builtin one, also while it is queued. Modal's own errors of that name are others.
            except TimeoutError:
                return None
            except modal_errors.Error:
                raise
            # What the function raised comes back as itself.
            except RuntimeError as error:
                return Outcome(detail=f"The container ended: {error}")

    async def cancel(self, call: str) -> None:
        """End a call and its container, and don't start it again. One that has ended is left alone."""
        client = await self._connection.client()
        with translated_errors("cancelling the run"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = modal.FunctionCall.from_id(call, client=client)
                    await found.cancel.aio(terminate_containers=True)
            except modal_errors.NotFoundError:
                return

    async def rates(self) -> dict[str, float]:
        """The account's own prices, by Modal's names."""
        client = await self._connection.client()
        with translated_errors("asking for prices"):
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await modal.Workspace.from_context(client=client).billing.rates.aio()
        return {name: float(value) for name, value in found.items()}

    async def _deployed(self, profile: LaunchProfile, client: modal.Client) -> Any:
        """The profile's function, deployed first where it is not."""
        environment = self._connection.environment
        function = modal.Function.from_name(
            profile.app_name, FUNCTION_NAME, environment_name=environment, client=client
        )
        with translated_errors("looking for the deployed function"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await function.hydrate.aio()
            except modal_errors.NotFoundError:
                await self._deploy(profile, client)
                await function.hydrate.aio()
        return function

    async def _deploy(self, profile: LaunchProfile, client: modal.Client) -> None:
        """Building the image the first time takes minutes."""
        app = modal.App(profile.app_name, include_source=False)
        app.function(
            image=image_of(profile),
            gpu=list(profile.gpus),
            cpu=profile.machine.cpu,
            memory=profile.machine.memory_mib,
            timeout=LONGEST_TIMEOUT_SECONDS,
            retries=modal.Retries(max_retries=_RETRIES, initial_delay=0.0),
            single_use_containers=True,
            name=FUNCTION_NAME,
        )(run_job)
        with translated_errors("deploying the function"):
            await app.deploy.aio(client=client, environment_name=self._connection.environment)


def image_of(profile: LaunchProfile) -> modal.Image:
    """The lock file's versions, and our package on top of them as it is here."""
    image = modal.Image.debian_slim(python_version=PYTHON_VERSION).pip_install(
        *profile.with_dependencies
    )
    image = image.pip_install(*profile.without_dependencies, extra_options="--no-deps")
    return image.add_local_python_source("corral", ignore=["**/__pycache__"])
