"""One attempt at one claimed job, from the end of the attempt before it to its own end.

Knows nothing of the queue: the job was claimed before, and is finished or released after.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from corral.errors import (
    ConflictError,
    CorralError,
    FencedError,
    JobNotFoundError,
    UnavailableError,
)
from corral.jobs.records import Job, JobState, Logged, Spent
from corral.jobs.store import JobStore
from corral.launchers.base import Launcher, RunStatus, Spending
from corral.run import TrainingRun
from corral.trainer.tasks import end_tasks
from corral.trainer.worker.follow import Follower, tell_steps
from corral.trainer.worker.grace import Seen, grace_seconds, seen_in
from corral.trainer.worker.lease import Lease
from corral.trainer.worker.loglines import clean_line, log_tail, rank_was_killed
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.recorder import Recorder
from corral.trainer.worker.shelf import Shelf
from corral.trainer.worker.verdict import PAUSED, Finish, Outcome, Release, judge, judge_error
from corral.volume import RunFolder, Volume

# How often the run's files and its process are looked at.
LOOK_SECONDS = 0.2
# A run that said that it ended may hang while it lets go of its devices.
EXIT_SECONDS = 15.0
# How often what a run costs is told; every step's progress says it too.
SPENDING_SECONDS = 60.0

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Tools:
    """What every attempt works with. Durations are seconds; `stop_seconds` is the least that a run is
    given to save and end, see corral.trainer.worker.grace.
    """

    store: JobStore
    launcher: Launcher
    volume: Volume
    lease_seconds: float
    stop_seconds: float
    metrics: WorkerMetrics

    async def is_over(self, job_id: str) -> bool:
        """Whether a job has ended or is not known any more."""
        try:
            return (await self.store.get(job_id)).state.is_end
        except JobNotFoundError:
            return True


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
        self._said_of_spending: Spending | None = None
        # Of the runs before this attempt's.
        self._seen = Seen()
        self._follower: Follower | None = None
        self._recorder = Recorder(tools.store, claimed, shutdown)
        self._shelf = Shelf(tools.volume.checkpoints(claimed.id), self._recorder)
        self._folder = tools.volume.run(claimed.id, claimed.attempt)

    @property
    def _job(self) -> Job:
        return self._recorder.job

    def _grace(self, floor: float) -> float:
        """Seconds that a run of this job may take to save and end, from all that is known now."""
        return grace_seconds(floor, self._follower.seen if self._follower else self._seen)

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
            await self._recorder.finish(decision.state, decision.failure, decision.reason)
        else:
            if decision.pauses:
                await self._ask_to_pause()
            await self._recorder.release(decision.reason, strike=decision.strike)
        await self._clear_away(is_finished=isinstance(decision, Finish))
        self._tools.metrics.decided(decision)

    async def _ask_to_pause(self) -> None:
        """Have the job wait, once it is released, until somebody resumes it."""
        # Cancelled meanwhile: then that is its end.
        with suppress(ConflictError):
            await self._tools.store.pause(self._job.id)

    async def _clear_away(self, *, is_finished: bool) -> None:
        """What a backend keeps of an ended run, and of an ended job, may go now that it is recorded."""
        try:
            if self._handle:
                await self._tools.launcher.stop(self._handle, 0)
            if is_finished:
                await self._tools.launcher.reap(self._tools.is_over)
        except CorralError as error:
            _log.warning("could not clear away the run", job=self._job.id, error=str(error))

    def _struck(self, code: str, message: str) -> Finish | Release:
        return judge_error(code, message, self._job.strikes, log_tail(self._folder.log))

    async def _run(self) -> Finish | Release:
        await self._look_back()
        if self._can_take_over():
            return await self._take_over()
        await self._end_previous()
        await self._tell_rest_of_previous()
        await self._shelf.take_over()
        newest = self._shelf.newest
        if newest is not None and newest.is_final:
            # The attempt before died between its last checkpoint and telling so.
            return Finish(JobState.SUCCEEDED)
        if self._lease.cancel_wished.is_set():
            return Finish(JobState.CANCELLED)
        if self._lease.pause_wished.is_set():
            return Release(PAUSED, False)
        if self._shutdown.is_set():
            return Release("The worker shuts down.", False)
        self._check_lease()
        self._handle = await self._start(newest.folder if newest else None)
        return await self._accompany(self._handle)

    async def _look_back(self) -> None:
        """Learn from the runs before this one how long it takes to stop one."""
        earlier = [
            self._tools.volume.run(self._job.id, attempt) for attempt in range(1, self._job.attempt)
        ]
        self._seen = await asyncio.to_thread(seen_in, earlier)

    def _can_take_over(self) -> bool:
        """Whether the run of a worker that died is to go on: it runs elsewhere."""
        return bool(self._previous_handle) and self._tools.launcher.can_take_over(
            self._previous_handle
        )

    async def _take_over(self) -> Finish | Release:
        """Follow the run of an attempt before as if it were this one's; nothing is told twice."""
        self._handle = self._previous_handle
        self._folder = await asyncio.to_thread(self._previous_folder)
        _log.info("taking over a run", job=self._job.id, folder=self._folder.path.name)
        return await self._accompany(self._handle, is_taken_over=True)

    def _previous_folder(self) -> RunFolder:
        """The newest run's: an attempt that took one over has none of its own."""
        attempts = range(self._job.attempt - 1, 0, -1)
        folders = [self._tools.volume.run(self._job.id, attempt) for attempt in attempts]
        return next((one for one in folders if one.run_file.exists()), folders[0])

    async def _end_previous(self) -> None:
        """A worker that died leaves its run: let it save what it has, but not for long."""
        if self._previous_handle:
            grace = self._grace(self._tools.lease_seconds / 2)
            await self._tools.launcher.stop(self._previous_handle, grace)

    async def _tell_rest_of_previous(self) -> None:
        """Steps that the attempt before made after its worker had died."""
        if self._job.attempt > 1:
            folder = await asyncio.to_thread(self._previous_folder)
            await tell_steps(folder, self._recorder)

    async def _start(self, resume_from: str | None) -> str:
        job, grace = self._job, self._grace(self._tools.stop_seconds)
        if grace > self._tools.stop_seconds:
            # A container's own grace period, which ends what trains in it, is as long as the setting.
            _log.warning("saving takes longer than CORRAL_STOP_SECONDS", job=job.id, seconds=grace)
        run = TrainingRun(
            job_id=job.id,
            attempt=job.attempt,
            dataset_id=job.dataset_id,
            spec=job.spec,
            resume_from=resume_from,
            stop_seconds=grace,
        )
        await asyncio.to_thread(run.write, self._folder.run_file)
        return await self._tools.launcher.start(self._folder.run_file, run)

    async def _accompany(self, handle: str, *, is_taken_over: bool = False) -> Finish | Release:
        """Follow a run to its end; whatever happens, none is left when this returns."""
        launcher = self._tools.launcher
        stopping = asyncio.create_task(self._stop_when_asked(handle))
        try:
            await self._recorder.started(handle)
            follower = Follower(self._folder, self._recorder, self._shelf, self._seen)
            self._follower = follower
            if is_taken_over:
                follower.go_on_after(self._job)
            status = await self._follow(follower, handle, stopping)
        except BaseException as error:
            is_lost = isinstance(error, FencedError) or self._lease.lost.is_set()
            if is_lost and launcher.can_take_over(handle):
                # It is the other worker's now.
                raise
            # No run outlives its attempt. At a shutdown without the store it may still save.
            spare = self._shutdown.is_set() and not self._lease.lost.is_set()
            await launcher.stop(handle, self._grace(self._tools.stop_seconds) if spare else 0)
            raise
        finally:
            await end_tasks([stopping])
        return judge(self._outcome(follower, status))

    def _is_stop_asked(self) -> bool:
        return any(wish.is_set() for wish in self._wishes_to_stop)

    @property
    def _wishes_to_stop(self) -> tuple[asyncio.Event, ...]:
        return (self._lease.cancel_wished, self._lease.pause_wished, self._shutdown)

    async def _stop_when_asked(self, handle: str) -> None:
        asked = [asyncio.create_task(wish.wait()) for wish in self._wishes_to_stop]
        try:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(asked)
        await self._tools.launcher.stop(handle, self._grace(self._tools.stop_seconds))

    async def _follow(
        self, follower: Follower, handle: str, stopping: asyncio.Task[None]
    ) -> RunStatus:
        """Tell what the run writes until it is gone and everything is told."""
        looks_after_end = 0
        while True:
            status = await self._tools.launcher.poll(handle)
            self._check_lease()
            await self._tell_waiting(status)
            await self._tell_spending(status, follower)
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
            await self._recorder.record([Logged(text=clean_line(status.detail), is_notice=True)])

    async def _tell_spending(self, status: RunStatus, follower: Follower) -> None:
        """What it costs, where somebody bills: with the GPU that it got, then each minute, at the end."""
        spending, told = status.spending, self._said_of_spending
        if spending is None:
            return
        follower.cost = spending.cost
        since = spending.running_seconds - (told.running_seconds if told else 0.0)
        is_new = told is None or told.gpu != spending.gpu
        is_last = not status.is_running and told != spending
        if is_new or is_last or since >= SPENDING_SECONDS:
            self._said_of_spending = spending
            await self._recorder.record([Spent(**vars(spending), is_notice=is_new or is_last)])

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
            pause_wished=self._lease.pause_wished.is_set(),
            shutting_down=self._shutdown.is_set(),
            strikes=self._job.strikes,
            log_tail=log_tail(self._folder.log),
            rank_was_killed=rank_was_killed(self._folder.log),
        )
