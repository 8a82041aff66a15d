"""The worker's loop: claim a job, carry it as far as it goes, take the next.

Knows nothing of how a job is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from corral.errors import CorralError, FencedError, JobNotFoundError, UnavailableError
from corral.jobs.records import Job
from corral.trainer.tasks import end_tasks
from corral.trainer.worker.run import Tools, run_job

# Also how soon a lease that ran out elsewhere is noticed at the latest.
_WAIT_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_REAP_SECONDS = 300.0

_log = structlog.stdlib.get_logger(__name__)


class Worker:
    """Works so many jobs at once until told to shut down. `name` tells workers apart in the records."""

    def __init__(self, tools: Tools, name: str, jobs_at_once: int = 1) -> None:
        self._tools = tools
        self._name = name
        self._jobs_at_once = jobs_at_once

    async def run(self, shutdown: asyncio.Event) -> None:
        """Return once `shutdown` is set and the jobs at hand are stopped, saved and given back."""
        _log.info("waiting for jobs", worker=self._name)
        async with asyncio.TaskGroup() as group:
            for slot in range(self._jobs_at_once):
                # A name claims one job at a time; see JobStore.claim.
                group.create_task(self._take_jobs(f"{self._name}/{slot}", shutdown))
            group.create_task(self._reap(shutdown))
        _log.info("stopped", worker=self._name)

    async def _take_jobs(self, name: str, shutdown: asyncio.Event) -> None:
        while not shutdown.is_set():
            try:
                job = await self._tools.store.claim(name, self._tools.lease_seconds)
                if job is None:
                    await _unless_set(shutdown, self._tools.store.wait_for_work(_WAIT_SECONDS))
            except UnavailableError as error:
                _log.warning("the store does not answer", error=error.message)
                await _unless_set(shutdown, asyncio.sleep(_RETRY_SECONDS))
            else:
                if job is not None:
                    await self._work(job, shutdown)

    async def _reap(self, shutdown: asyncio.Event) -> None:
        """What jobs that are over have left elsewhere goes: at the start, and now and then."""
        while not shutdown.is_set():
            try:
                await self._tools.launcher.reap(self._tools.is_over)
            except CorralError as error:
                _log.warning("could not clear away what is left", error=str(error))
            except Exception:  # noqa: BLE001 - a look that fails is not the end of the worker
                _log.exception("could not clear away what is left")
            await _unless_set(shutdown, asyncio.sleep(_REAP_SECONDS))

    async def _work(self, job: Job, shutdown: asyncio.Event) -> None:
        log = _log.bind(job=job.id, attempt=job.attempt)
        log.info("claimed")
        try:
            await run_job(self._tools, job, shutdown)
        except (FencedError, JobNotFoundError) as error:
            log.warning("lost to another worker", error=error.message)
        except UnavailableError as error:
            log.warning("left to its lease", error=error.message)
        except Exception:  # one job's trouble is not the next one's
            log.exception("job left to its lease")
            # It is claimed again at once: not in a tight loop.
            await _unless_set(shutdown, asyncio.sleep(_RETRY_SECONDS))


async def _unless_set(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Await some work, but no longer than until the event is set. Raises what the work raises."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        await end_tasks((working, waiting))
