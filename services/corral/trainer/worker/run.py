"""One attempt at one claimed job, from the end of the attempt before it to its own end.

Knows nothing of the queue: the job was claimed before, and is finished or released after.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from corral.errors import CorralError, FencedError, JobNotFoundError, UnavailableError
from corral.jobs.records import Job, JobState, Logged
from corral.jobs.store import JobStore
from corral.launchers.base import Launcher, RunStatus
from corral.run import TrainingRun
from corral.trainer.tasks import end_tasks
from corral.trainer.worker.follow import Follower, tell_steps
from corral.trainer.worker.lease import Lease
from corral.trainer.worker.loglines import clean_line, log_tail
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.recorder import Recorder
from corral.trainer.worker.shelf import Shelf
from corral.trainer.worker.verdict import Finish, Outcome, Release, judge, judge_error
from corral.volume import Volume

# How often the run's files and its process are looked at.
LOOK_SECONDS = 0.2
# A run that said that it ended may hang while it lets go of its devices.
EXIT_SECONDS = 15.0

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Tools:
    """What every attempt works with. Durations are seconds."""

    store: JobStore
    launcher: Launcher
    volume: Volume
    lease_seconds: float
    stop_seconds: float
    metrics: WorkerMetrics


async def run_job(tools: Tools, claimed: Job, shutdown: asyncio.Event) -> None:
    """Carry a claimed job as far as it goes. Once `shutdown` is set, stop it with a checkpoint and
    give it back.

    Returns when no run of this attempt is left. Raises FencedError or JobNotFoundError when the
    job is another worker's, UnavailableError when the store was away at shutdown.
    """
    with tools.metrics.attempt():
        async with Lease(tools.store, claimed, tools.lease_seconds) as lease:
            await Attempt(tools, claimed, lease, shutdown).carry_out()


class Attempt:
    """One attempt while its lease lasts."""

    def __init__(self, tools: Tools, claimed: Job, lease: Lease, shutdown: asyncio.Event) -> None:
        self._tools = tools
        self._lease = lease
        self._shutdown = shutdown
        self._previous_handle = claimed.handle
        self._handle = ""
        self._said_of_waiting = ""
        self._recorder = Recorder(tools.store, claimed, shutdown)
        self._shelf = Shelf(tools.volume.checkpoints(claimed.id), self._recorder)
        self._folder = tools.volume.run(claimed.id, claimed.attempt)

    @property
    def _job(self) -> Job:
        return self._recorder.job

    async def carry_out(self) -> None:
        """Run, follow, decide, tell. An error of any kind costs the job a strike, not the worker."""
        try:
            decision = await self._run()
        except (FencedError, JobNotFoundError):
            raise
        except UnavailableError as error:
            # A launcher's backend is away, after the launcher has waited for it. Not the run's fault.
            _log.warning("attempt broken off", job=self._job.id, error=str(error))
            decision = Release(str(error), False)
        except CorralError as error:
            _log.warning("attempt failed", job=self._job.id, error=str(error))
            decision = self._struck(error.code, str(error))
        except Exception:  # noqa: BLE001 - a bug in one attempt is not the next one's
            _log.exception("attempt failed", job=self._job.id)
            decision = self._struck(CorralError.code, "The worker failed; its log says how.")
        _log.info("attempt over", job=self._job.id, attempt=self._job.attempt, decision=decision)
        if isinstance(decision, Finish):
            await self._recorder.finish(decision.state, decision.failure)
        else:
            await self._recorder.release(decision.reason, strike=decision.strike)
        await self._clear_away()
        self._tools.metrics.decided(decision)

    async def _clear_away(self) -> None:
        """What a backend keeps of an ended run may go, now that its end is recorded."""
        if not self._handle:
            return
        try:
            await self._tools.launcher.stop(self._handle, 0)
        except CorralError as error:
            _log.warning("could not clear away the run", job=self._job.id, error=str(error))

    def _struck(self, code: str, message: str) -> Finish | Release:
        return judge_error(code, message, self._job.strikes, log_tail(self._folder.log))

    async def _run(self) -> Finish | Release:
        await self._end_previous()
        await self._tell_rest_of_previous()
        await self._shelf.take_over()
        newest = self._shelf.newest
        if newest is not None and newest.is_final:
            # The attempt before died between its last checkpoint and telling so.
            return Finish(JobState.SUCCEEDED)
        if self._lease.cancel_wished.is_set():
            return Finish(JobState.CANCELLED)
        if self._shutdown.is_set():
            return Release("The worker shuts down.", False)
        self._check_lease()
        self._handle = await self._start(newest.folder if newest else None)
        return await self._accompany(self._handle)

    async def _end_previous(self) -> None:
        """A worker that died leaves its run: let it save what it has, but not for long."""
        if self._previous_handle:
            await self._tools.launcher.stop(self._previous_handle, self._tools.lease_seconds / 2)

    async def _tell_rest_of_previous(self) -> None:
        """Steps that the attempt before made after its worker had died."""
        folder = self._tools.volume.run(self._job.id, self._job.attempt - 1)
        await tell_steps(folder, self._recorder)

    async def _start(self, resume_from: str | None) -> str:
        job = self._job
        run = TrainingRun(
            job_id=job.id,
            attempt=job.attempt,
            dataset_id=job.dataset_id,
            spec=job.spec,
            resume_from=resume_from,
        )
        await asyncio.to_thread(run.write, self._folder.run_file)
        return await self._tools.launcher.start(self._folder.run_file, run)

    async def _accompany(self, handle: str) -> Finish | Release:
        """Follow a run to its end; whatever happens, none is left when this returns."""
        launcher = self._tools.launcher
        stopping = asyncio.create_task(self._stop_when_asked(handle))
        try:
            await self._recorder.started(handle)
            follower = Follower(self._folder, self._recorder, self._shelf)
            status = await self._follow(follower, handle, stopping)
        except BaseException:
            # No run outlives its attempt. At a shutdown without the store it may still save.
            spare = self._shutdown.is_set() and not self._lease.lost.is_set()
            await launcher.stop(handle, self._tools.stop_seconds if spare else 0)
            raise
        finally:
            await end_tasks([stopping])
        return judge(self._outcome(follower, status))

    def _is_stop_asked(self) -> bool:
        return self._lease.cancel_wished.is_set() or self._shutdown.is_set()

    async def _stop_when_asked(self, handle: str) -> None:
        asked = [
            asyncio.create_task(event.wait())
            for event in (self._lease.cancel_wished, self._shutdown)
        ]
        try:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(asked)
        await self._tools.launcher.stop(handle, self._tools.stop_seconds)

    async def _follow(
        self, follower: Follower, handle: str, stopping: asyncio.Task[None]
    ) -> RunStatus:
        """Tell what the run writes until it is gone and everything is told."""
        looks_after_end = 0
        while True:
            status = await self._tools.launcher.poll(handle)
            self._check_lease()
            await self._tell_waiting(status)
            await follower.catch_up(with_log=not self._is_stop_asked())
            if not status.is_running:
                return status
            if stopping.done():
                # Only to learn that it failed: a run that can't be stopped must not go unnoticed.
                stopping.result()
            if follower.ended is not None:
                looks_after_end += 1
                if looks_after_end * LOOK_SECONDS > EXIT_SECONDS:
                    await self._tools.launcher.stop(handle, 0)
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell_waiting(self, status: RunStatus) -> None:
        """Why a run can't begin belongs to the job's events, once each time that it changes."""
        if status.is_running and status.detail not in ("", self._said_of_waiting):
            self._said_of_waiting = status.detail
            await self._recorder.record([Logged(text=clean_line(status.detail))])

    def _check_lease(self) -> None:
        """Raises FencedError once the job is another worker's: not every look writes something
        that would be refused.
        """
        if self._lease.lost.is_set():
            raise FencedError(f"Attempt {self._job.attempt} lost the lease of {self._job.id}.")

    def _outcome(self, follower: Follower, status: RunStatus) -> Outcome:
        newest = self._shelf.newest
        return Outcome(
            ended=follower.ended,
            status=status,
            is_complete=newest is not None and newest.is_final,
            cancel_wished=self._lease.cancel_wished.is_set(),
            shutting_down=self._shutdown.is_set(),
            strikes=self._job.strikes,
            log_tail=log_tail(self._folder.log),
        )
