"""What every JobStore does. A subclass brings the fixtures `store` and `expire_lease`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import cast
from uuid import uuid4

import pytest
from tests.job_builders import DATASET, checkpoint, failure, measured, states, submission

from corral.errors import ConflictError, FencedError, InvalidRequestError, JobNotFoundError
from corral.jobs.records import (
    CheckpointPublished,
    Event,
    Job,
    JobState,
    Logged,
    Measured,
    Spending,
    Spent,
    StateChanged,
)
from corral.jobs.store import JobStore

ExpireLease = Callable[[str], Awaitable[None]]

# Longer than any test takes: leases run out when a test says so.
LEASE = 600.0
# For what must happen: only a failing test waits as long.
PATIENCE = 20.0


async def claim(store: JobStore, worker: str = "") -> Job:
    """Claim a job that must be there, by default as a worker that never claimed before."""
    job = await store.claim(worker or f"worker-{uuid4()}", LEASE)
    assert job is not None
    return job


async def claimed(store: JobStore, job_id: str = "job-1") -> Job:
    """Submit a job and claim it."""
    await store.submit(submission(job_id))
    job = await claim(store)
    assert job.id == job_id
    return job


async def running(store: JobStore) -> Job:
    """A job that has reported a step."""
    job = await claimed(store)
    return await store.record(job.id, job.attempt, [measured(1)])


async def all_events(store: JobStore, job_id: str = "job-1", after: int = 0) -> list[Event]:
    """Every event until the end state."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in store.watch(job_id, after)]


async def events_so_far(store: JobStore, job_id: str = "job-1") -> list[Event]:
    """Every event of a job that goes on."""
    last = (await store.get(job_id)).last_event
    found: list[Event] = []
    async with watching(store, job_id) as events:
        while len(found) < last:
            found.append(await next_event(events))
    return found


def watching(store: JobStore, job_id: str = "job-1", after: int = 0) -> aclosing:
    """A watch that is closed at the block's end."""
    return aclosing(cast("AsyncIterator[Event]", store.watch(job_id, after)))


async def next_event(events: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(PATIENCE):
        return await anext(events)


class JobStoreConformance:
    """The tests. Each begins with an empty store."""

    # ------------------------------------------------------------ submitting

    async def test_a_worker_that_claims_again_gets_the_job_that_it_held_before_any_other(
        self, store: JobStore
    ) -> None:
        await store.submit(submission("job-1"))
        await store.submit(submission("job-2"))
        first = await store.claim("w1", LEASE)
        assert first is not None

        again = await store.claim("w1", LEASE)

        assert again is not None
        assert (again.id, again.attempt) == ("job-1", 2)
        with pytest.raises(FencedError):
            await store.renew("job-1", 1, LEASE)
        other = await store.claim("w2", LEASE)
        assert other is not None
        assert other.id == "job-2"

    async def test_a_worker_that_gave_its_job_back_takes_the_next_in_the_queue(
        self, store: JobStore
    ) -> None:
        await store.submit(submission("job-1"))
        await store.submit(submission("job-2"))
        await store.claim("w1", LEASE)
        await store.finish("job-1", 1, JobState.SUCCEEDED)

        following = await store.claim("w1", LEASE)

        assert following is not None
        assert following.id == "job-2"

    async def test_a_submitted_job_is_queued_with_all_that_was_asked(self, store: JobStore) -> None:
        asked = submission(model="my/model", epochs=7, preamble="Sagt's „so“:\n")
        job = await store.submit(asked)
        assert (job.id, job.state, job.spec, job.dataset_id) == (
            "job-1",
            JobState.QUEUED,
            asked.spec,
            DATASET,
        )
        assert (job.attempt, job.strikes, job.handle, job.worker) == (0, 0, "", "")
        assert job.created_at > 0
        assert job.started_at is None
        assert job.finished_at is None
        assert await store.get("job-1") == job

    async def test_the_same_key_gives_the_job_it_made_before(self, store: JobStore) -> None:
        first = await store.submit(submission("job-1", key="k"))
        assert await store.submit(submission("job-2", key="k")) == first
        assert [job.id for job in (await store.list_page(10)).jobs] == ["job-1"]

    async def test_the_same_key_gives_its_job_also_after_the_end(self, store: JobStore) -> None:
        await store.submit(submission("job-1", key="k"))
        await store.cancel("job-1")
        assert (await store.submit(submission("job-2", key="k"))).state is JobState.CANCELLED

    @pytest.mark.parametrize(
        "other", [submission("job-2", key="k", epochs=9), submission("job-2", "k", "e" * 64)]
    )
    async def test_the_same_key_with_another_request_is_refused(
        self, store: JobStore, other: object
    ) -> None:
        await store.submit(submission("job-1", key="k"))
        with pytest.raises(ConflictError):
            await store.submit(other)
        with pytest.raises(JobNotFoundError):
            await store.get("job-2")

    async def test_the_same_id_is_one_job(self, store: JobStore) -> None:
        first = await store.submit(submission())
        assert await store.submit(submission()) == first
        assert (await store.get("job-1")).last_event == 1
        with pytest.raises(ConflictError):
            await store.submit(submission(epochs=9))

    async def test_metadata_stays_with_the_job_and_belongs_to_the_request(
        self, store: JobStore
    ) -> None:
        noted = submission("job-1", key="k").model_copy(update={"metadata": {"für": '"wen"'}})
        job = await store.submit(noted)
        assert job.metadata == {"für": '"wen"'}
        assert await store.get("job-1") == job
        with pytest.raises(ConflictError):
            await store.submit(submission("job-2", key="k"))

    async def test_a_deleted_jobs_key_can_be_used_again(self, store: JobStore) -> None:
        await store.submit(submission("job-1", key="k"))
        await store.cancel("job-1")
        await store.delete("job-1")
        assert (await store.submit(submission("job-2", key="k"))).id == "job-2"

    # ------------------------------------------------------------ reading

    async def test_an_unknown_job_is_not_found(self, store: JobStore) -> None:
        for call in (store.get, store.cancel, store.pause, store.resume, store.delete):
            with pytest.raises(JobNotFoundError):
                await call("job-none")
        with pytest.raises(JobNotFoundError):
            await all_events(store, "job-none")

    async def test_pages_are_newest_first_and_the_last_has_no_token(self, store: JobStore) -> None:
        for n in range(5):
            await store.submit(submission(f"job-{n}"))
        listed, token = [], ""
        for expected in (2, 2, 1):
            page = await store.list_page(2, token)
            assert len(page.jobs) == expected
            listed += [job.id for job in page.jobs]
            token = page.next_token
        assert listed == ["job-4", "job-3", "job-2", "job-1", "job-0"]
        assert token == ""

    async def test_a_full_last_page_has_no_token(self, store: JobStore) -> None:
        for n in range(2):
            await store.submit(submission(f"job-{n}"))
        assert (await store.list_page(2)).next_token == ""

    async def test_paging_lists_each_job_once_while_jobs_come_and_go(self, store: JobStore) -> None:
        for n in range(6):
            await store.submit(submission(f"job-{n}"))
        first = await store.list_page(2)
        await store.submit(submission("job-new"))
        # The one that the token came from, and one of the next page.
        for gone in ("job-4", "job-3"):
            await store.cancel(gone)
            await store.delete(gone)
        second = await store.list_page(10, first.next_token)
        assert [job.id for job in first.jobs] == ["job-5", "job-4"]
        assert [job.id for job in second.jobs] == ["job-2", "job-1", "job-0"]

    async def test_listing_by_state_fills_its_pages(self, store: JobStore) -> None:
        for n in range(6):
            await store.submit(submission(f"job-{n}"))
        for n in (1, 3, 5):
            await store.cancel(f"job-{n}")
        page = await store.list_page(2, states=[JobState.CANCELLED, JobState.FAILED])
        assert [job.id for job in page.jobs] == ["job-5", "job-3"]
        page = await store.list_page(2, page.next_token, [JobState.CANCELLED])
        assert [job.id for job in page.jobs] == ["job-1"]
        assert page.next_token == ""

    @pytest.mark.parametrize("token", ["x", "am9i", "…", "am9icy1iZWZvcmUteA=="])
    async def test_a_foreign_page_token_is_refused(self, store: JobStore, token: str) -> None:
        with pytest.raises(InvalidRequestError):
            await store.list_page(10, token)

    async def test_jobs_are_counted_by_state(self, store: JobStore) -> None:
        assert sum((await store.counts()).values()) == 0
        for number in range(3):
            await store.submit(submission(f"job-{number}"))
        await store.cancel("job-2")
        await claim(store)
        counts = {state: count for state, count in (await store.counts()).items() if count}
        assert counts == {JobState.STARTING: 1, JobState.QUEUED: 1, JobState.CANCELLED: 1}

    async def test_a_data_set_is_in_use_until_its_jobs_end(self, store: JobStore) -> None:
        for n in range(3):
            await store.submit(submission(f"job-{n}"))
        await store.submit(submission("job-other", dataset="e" * 64))
        job = await claim(store)
        assert await store.jobs_using(DATASET) == ["job-0", "job-1", "job-2"]
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        await store.cancel("job-1")
        assert await store.jobs_using(DATASET) == ["job-2"]
        assert await store.jobs_using("f" * 64) == []

    # ------------------------------------------------------------ cancelling and deleting

    async def test_a_queued_job_is_cancelled_at_once(self, store: JobStore) -> None:
        await store.submit(submission())
        job = await store.cancel("job-1")
        assert job.state is JobState.CANCELLED
        assert job.finished_at is not None
        assert await store.claim("worker-1", LEASE) is None

    async def test_a_starting_job_is_cancelling_until_its_worker_ends_it(
        self, store: JobStore
    ) -> None:
        job = await claimed(store)
        assert (await store.cancel(job.id)).state is JobState.CANCELLING
        assert (await store.renew(job.id, job.attempt, LEASE)).state is JobState.CANCELLING
        ended = await store.finish(job.id, job.attempt, JobState.CANCELLED)
        assert ended.state is JobState.CANCELLED
        assert states(await all_events(store)) == [
            JobState.QUEUED,
            JobState.STARTING,
            JobState.CANCELLING,
            JobState.CANCELLED,
        ]

    async def test_a_running_job_stays_cancelling_while_it_reports(self, store: JobStore) -> None:
        job = await running(store)
        await store.cancel(job.id)
        reported = await store.record(job.id, job.attempt, [measured(2)])
        assert reported.state is JobState.CANCELLING
        assert reported.progress == measured(2).progress

    async def test_a_starting_job_that_is_cancelled_does_not_begin_to_run(
        self, store: JobStore
    ) -> None:
        job = await claimed(store)
        await store.cancel(job.id)
        reported = await store.record(job.id, job.attempt, [measured(1)])
        assert reported.state is JobState.CANCELLING

    async def test_cancelling_twice_changes_nothing(self, store: JobStore) -> None:
        await running(store)
        once = await store.cancel("job-1")
        assert await store.cancel("job-1") == once
        await store.submit(submission("job-2"))
        once = await store.cancel("job-2")
        assert await store.cancel("job-2") == once

    async def test_an_ended_job_can_not_be_cancelled(self, store: JobStore) -> None:
        job = await claimed(store)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        with pytest.raises(ConflictError, match="SUCCEEDED"):
            await store.cancel(job.id)

    async def test_only_an_ended_job_can_be_deleted(self, store: JobStore) -> None:
        job = await claimed(store)
        with pytest.raises(ConflictError, match="STARTING"):
            await store.delete(job.id)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        await store.delete(job.id)
        with pytest.raises(JobNotFoundError):
            await store.get(job.id)
        assert (await store.list_page(10)).jobs == ()

    # ------------------------------------------------------------ pausing

    async def test_a_queued_job_is_paused_at_once_and_nobody_claims_it(
        self, store: JobStore
    ) -> None:
        await store.submit(submission())
        assert (await store.pause("job-1")).state is JobState.PAUSED
        assert await store.claim("worker-1", LEASE) is None
        assert await store.jobs_using(DATASET) == ["job-1"]

    async def test_a_resumed_job_is_claimed_in_its_old_place(self, store: JobStore) -> None:
        for n in (1, 2):
            await store.submit(submission(f"job-{n}"))
        await store.pause("job-1")
        assert (await store.resume("job-1")).state is JobState.QUEUED
        assert [(await claim(store)).id for _ in range(2)] == ["job-1", "job-2"]

    async def test_a_running_job_is_pausing_until_its_worker_releases_it(
        self, store: JobStore
    ) -> None:
        job = await running(store)
        assert (await store.pause(job.id)).state is JobState.PAUSING
        reported = await store.record(job.id, job.attempt, [measured(2)])
        assert reported.state is JobState.PAUSING
        paused = await store.release(job.id, job.attempt, "stopped")
        assert (paused.state, paused.worker) == (JobState.PAUSED, "")
        assert await store.claim("worker-2", LEASE) is None
        await store.resume(job.id)
        assert (await claim(store)).attempt == 2

    async def test_a_pausing_job_that_is_resumed_goes_back_to_the_queue(
        self, store: JobStore
    ) -> None:
        job = await claimed(store)
        await store.pause(job.id)
        assert (await store.resume(job.id)).state is JobState.STARTING
        released = await store.release(job.id, job.attempt, "stopped")
        assert released.state is JobState.QUEUED

    async def test_pausing_and_resuming_twice_change_nothing(self, store: JobStore) -> None:
        await store.submit(submission())
        once = await store.pause("job-1")
        assert await store.pause("job-1") == once
        once = await store.resume("job-1")
        assert await store.resume("job-1") == once

    async def test_paused_and_pausing_jobs_can_be_cancelled(self, store: JobStore) -> None:
        job = await claimed(store)
        await store.pause(job.id)
        assert (await store.cancel(job.id)).state is JobState.CANCELLING
        await store.submit(submission("job-2"))
        await store.pause("job-2")
        assert (await store.cancel("job-2")).state is JobState.CANCELLED

    async def test_a_job_that_ends_while_it_is_paused_has_ended(self, store: JobStore) -> None:
        job = await claimed(store)
        await store.pause(job.id)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        for call in (store.pause, store.resume):
            with pytest.raises(ConflictError, match="SUCCEEDED"):
                await call(job.id)

    async def test_a_pausing_job_whose_lease_ran_out_stays_pausing(
        self, store: JobStore, expire_lease: ExpireLease
    ) -> None:
        job = await claimed(store)
        await store.pause(job.id)
        await expire_lease(job.id)
        again = await claim(store, "worker-2")
        assert (again.state, again.attempt) == (JobState.PAUSING, 2)

    # ------------------------------------------------------------ claiming

    async def test_there_is_nothing_to_claim_in_an_empty_queue(self, store: JobStore) -> None:
        assert await store.claim("worker-1", LEASE) is None

    async def test_jobs_are_claimed_in_the_order_they_came(self, store: JobStore) -> None:
        for n in (3, 1, 2):
            await store.submit(submission(f"job-{n}"))
        assert [(await claim(store)).id for _ in range(3)] == ["job-3", "job-1", "job-2"]
        assert await store.claim("worker-1", LEASE) is None

    async def test_a_claim_starts_an_attempt(self, store: JobStore) -> None:
        await store.submit(submission())
        job = await claim(store, "worker-1")
        assert (job.state, job.attempt, job.worker) == (JobState.STARTING, 1, "worker-1")
        assert job.started_at is not None
        assert await store.get(job.id) == job

    async def test_a_job_whose_lease_ran_out_is_claimed_before_the_queue(
        self, store: JobStore, expire_lease: ExpireLease
    ) -> None:
        first = await claimed(store)
        await store.submit(submission("job-2"))
        await store.started(first.id, first.attempt, "the handle")
        await store.record(first.id, first.attempt, [measured(1)])
        await expire_lease(first.id)
        again = await claim(store, "worker-2")
        assert (again.id, again.attempt, again.worker) == (first.id, 2, "worker-2")
        assert again.state is JobState.STARTING
        # So that the run of the dead worker can be ended.
        assert again.handle == "the handle"
        assert again.started_at == first.started_at
        assert again.progress == measured(1).progress

    async def test_a_cancelling_job_whose_lease_ran_out_stays_cancelling(
        self, store: JobStore, expire_lease: ExpireLease
    ) -> None:
        job = await claimed(store)
        await store.cancel(job.id)
        await expire_lease(job.id)
        again = await claim(store, "worker-2")
        assert (again.state, again.attempt) == (JobState.CANCELLING, 2)

    async def test_a_renewed_lease_keeps_the_job(
        self, store: JobStore, expire_lease: ExpireLease
    ) -> None:
        job = await claimed(store)
        await expire_lease(job.id)
        # The lease ran out, yet nobody else has come: the attempt is still the newest.
        await store.renew(job.id, job.attempt, LEASE)
        assert await store.claim("worker-2", LEASE) is None

    async def test_an_ended_job_is_never_claimed_again(
        self, store: JobStore, expire_lease: ExpireLease
    ) -> None:
        job = await claimed(store)
        await expire_lease(job.id)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        assert await store.claim("worker-2", LEASE) is None

    async def test_twenty_workers_claim_two_hundred_jobs_once_each(self, store: JobStore) -> None:
        names = [f"job-{n}" for n in range(200)]
        for name in names:
            await store.submit(submission(name))

        async def work(worker: str) -> list[str]:
            claimed = []
            while job := await store.claim(f"{worker}/{len(claimed)}", LEASE):
                assert (job.attempt, job.worker) == (1, f"{worker}/{len(claimed)}")
                claimed.append(job.id)
            return claimed

        hauls = await asyncio.gather(*(work(f"worker-{n}") for n in range(20)))
        assert sorted(name for haul in hauls for name in haul) == sorted(names)

    async def test_an_idle_worker_is_woken_by_a_submission(self, store: JobStore) -> None:
        waiting = asyncio.create_task(store.wait_for_work(PATIENCE * 2))
        await store.submit(submission())
        async with asyncio.timeout(PATIENCE):
            while await store.claim("worker-1", LEASE) is None:
                await waiting

    async def test_waiting_for_work_ends_when_none_comes(self, store: JobStore) -> None:
        async with asyncio.timeout(PATIENCE):
            await store.wait_for_work(0.01)
            await store.wait_for_work(0)

    # ------------------------------------------------------------ the fence

    @pytest.mark.parametrize("late", [False, True], ids=["claimed again", "released"])
    async def test_an_old_attempt_can_change_nothing(
        self, store: JobStore, expire_lease: ExpireLease, late: bool
    ) -> None:
        old = await running(store)
        if late:
            await store.release(old.id, old.attempt, "shutting down")
        else:
            await expire_lease(old.id)
            await claim(store, "worker-2")
        before = await store.get(old.id)
        calls = [
            store.renew(old.id, old.attempt, LEASE),
            store.started(old.id, old.attempt, "handle"),
            store.record(old.id, old.attempt, [Logged(text="late")]),
            store.record(old.id, old.attempt, [measured(9)]),
            store.publish(old.id, old.attempt, checkpoint(9)),
            store.unpublish(old.id, old.attempt, [1]),
            store.finish(old.id, old.attempt, JobState.SUCCEEDED),
            store.release(old.id, old.attempt, "late", strike=True),
        ]
        for call in calls:
            with pytest.raises(FencedError):
                await call
        assert await store.get(old.id) == before

    async def test_an_attempt_that_never_was_can_change_nothing(self, store: JobStore) -> None:
        await store.submit(submission())
        for job_id, attempt in (("job-1", 0), ("job-1", 1), ("job-none", 1)):
            with pytest.raises(FencedError):
                await store.renew(job_id, attempt, LEASE)

    async def test_nothing_is_written_about_an_ended_job(self, store: JobStore) -> None:
        job = await claimed(store)
        ended = await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        with pytest.raises(FencedError):
            await store.record(job.id, job.attempt, [Logged(text="late")])
        with pytest.raises(FencedError):
            await store.finish(job.id, job.attempt, JobState.CANCELLED)
        assert await store.get(job.id) == ended

    # ------------------------------------------------------------ recording

    async def test_the_first_measurement_starts_the_running(self, store: JobStore) -> None:
        job = await claimed(store)
        job = await store.record(
            job.id, job.attempt, [Logged(text="loading"), measured(1), measured(2)]
        )
        assert job.state is JobState.RUNNING
        assert job.progress == measured(2).progress
        bodies = [event.body for event in await events_so_far(store)]
        assert bodies[2] == Logged(text="loading")
        assert isinstance(bodies[3], StateChanged)
        assert bodies[3].state is JobState.RUNNING
        assert bodies[4:] == [measured(1), measured(2)]

    async def test_log_lines_alone_leave_the_state(self, store: JobStore) -> None:
        job = await claimed(store)
        job = await store.record(job.id, job.attempt, [Logged(text="x")])
        assert (job.state, job.progress) == (JobState.STARTING, None)

    async def test_what_a_backend_bills_for_is_in_the_record_as_it_was_told_last(
        self, store: JobStore
    ) -> None:
        job = await running(store)
        assert job.spending is None
        told = [
            Spent(gpu="H100", queued_seconds=3.0, running_seconds=1.0, cost=None),
            Spent(gpu="H100", queued_seconds=3.0, running_seconds=2.5, cost=0.25),
        ]
        await store.record(job.id, job.attempt, told)
        expected = Spending(gpu="H100", queued_seconds=3.0, running_seconds=2.5, cost=0.25)
        assert (await store.get(job.id)).spending == expected
        await store.record(job.id, job.attempt, [measured(2)])
        assert (await store.get(job.id)).spending == expected

    async def test_recording_nothing_changes_nothing(self, store: JobStore) -> None:
        job = await claimed(store)
        assert await store.record(job.id, job.attempt, []) == job

    async def test_a_loss_that_is_not_a_number_is_kept(self, store: JobStore) -> None:
        job = await claimed(store)
        job = await store.record(job.id, job.attempt, [measured(1, loss=float("nan"))])
        assert job.progress is not None
        assert job.progress.loss != job.progress.loss
        body = (await events_so_far(store))[-1].body
        assert isinstance(body, Measured)
        assert body.progress.loss != body.progress.loss

    async def test_states_change_through_their_own_calls_only(self, store: JobStore) -> None:
        job = await claimed(store)
        with pytest.raises(AssertionError):
            await store.record(job.id, job.attempt, [StateChanged(state=JobState.SUCCEEDED)])

    # ------------------------------------------------------------ checkpoints

    async def test_a_step_is_published_once(self, store: JobStore) -> None:
        job = await running(store)
        once = await store.publish(job.id, job.attempt, checkpoint(10))
        assert once.checkpoints == (checkpoint(10),)
        again = checkpoint(10).model_copy(update={"folder": "another"})
        assert await store.publish(job.id, job.attempt, again) == once
        bodies = [event.body for event in await events_so_far(store)]
        assert bodies.count(CheckpointPublished(checkpoint=checkpoint(10))) == 1

    async def test_checkpoints_are_listed_by_step(self, store: JobStore) -> None:
        job = await running(store)
        for step in (9, 10, 100):
            job = await store.publish(job.id, job.attempt, checkpoint(step))
        job = await store.unpublish(job.id, job.attempt, [10, 11])
        assert [one.step for one in job.checkpoints] == [9, 100]
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        assert [one.step for one in (await store.get(job.id)).checkpoints] == [9, 100]

    # ------------------------------------------------------------ ending and releasing

    async def test_a_success_may_say_why_it_came_early(self, store: JobStore) -> None:
        job = await running(store)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED, reason="Good enough.")
        body = (await all_events(store))[-1].body
        assert isinstance(body, StateChanged)
        assert (body.state, body.reason) == (JobState.SUCCEEDED, "Good enough.")

    async def test_a_failure_carries_its_reason(self, store: JobStore) -> None:
        job = await running(store)
        job = await store.finish(job.id, job.attempt, JobState.FAILED, failure())
        assert (job.state, job.failure, job.worker) == (JobState.FAILED, failure(), "")
        assert job.finished_at is not None
        body = (await all_events(store))[-1].body
        assert isinstance(body, StateChanged)
        assert (body.state, body.reason, body.failure) == (
            JobState.FAILED,
            failure().message,
            failure(),
        )

    async def test_a_failure_goes_with_failed_and_only_there(self, store: JobStore) -> None:
        job = await claimed(store)
        with pytest.raises(AssertionError):
            await store.finish(job.id, job.attempt, JobState.FAILED)
        with pytest.raises(AssertionError):
            await store.finish(job.id, job.attempt, JobState.SUCCEEDED, failure())
        with pytest.raises(AssertionError):
            await store.finish(job.id, job.attempt, JobState.QUEUED)

    async def test_a_released_job_goes_to_the_front_of_the_queue(self, store: JobStore) -> None:
        first, second = await claimed(store, "job-1"), await claimed(store, "job-2")
        await store.submit(submission("job-3"))
        for held in (first, second):
            job = await store.release(held.id, held.attempt, "shutting down")
            assert (job.state, job.worker, job.strikes) == (JobState.QUEUED, "", 0)
        assert [(await claim(store)).id for _ in range(3)] == ["job-1", "job-2", "job-3"]

    async def test_a_released_job_says_why(self, store: JobStore) -> None:
        job = await running(store)
        await store.release(job.id, job.attempt, 'the "worker" stops')
        body = (await events_so_far(store))[-1].body
        assert body == StateChanged(state=JobState.QUEUED, reason='the "worker" stops')

    async def test_a_cancelling_job_is_cancelled_when_it_is_released(self, store: JobStore) -> None:
        job = await claimed(store)
        await store.cancel(job.id)
        job = await store.release(job.id, job.attempt, "shutting down")
        assert job.state is JobState.CANCELLED
        assert await store.claim("worker-2", LEASE) is None

    async def test_strikes_count_until_a_checkpoint_is_published(self, store: JobStore) -> None:
        await store.submit(submission())
        for strikes in (1, 2):
            job = await claim(store)
            job = await store.release(job.id, job.attempt, "it died", strike=True)
            assert job.strikes == strikes
        job = await claim(store)
        assert job.strikes == 2
        assert (await store.publish(job.id, job.attempt, checkpoint(1, 3))).strikes == 0

    # ------------------------------------------------------------ watching

    async def test_events_are_numbered_from_one_without_gaps(self, store: JobStore) -> None:
        job = await running(store)
        await store.publish(job.id, job.attempt, checkpoint(10))
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        events = await all_events(store)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert (await store.get(job.id)).last_event == len(events)
        assert [event.time for event in events] == sorted(event.time for event in events)
        assert [event.attempt for event in events] == [0] + [1] * (len(events) - 1)

    async def test_a_watch_resumes_behind_a_number(self, store: JobStore) -> None:
        job = await running(store)
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        events = await all_events(store)
        for after in range(len(events) + 1):
            assert await all_events(store, after=after) == events[after:]

    async def test_a_watch_shows_what_happens_as_it_happens(self, store: JobStore) -> None:
        job = await claimed(store)
        async with watching(store, after=job.last_event) as events:
            coming = asyncio.create_task(next_event(events))
            await store.record(job.id, job.attempt, [Logged(text="one")])
            assert (await coming).body == Logged(text="one")
            await store.record(job.id, job.attempt, [Logged(text="two")])
            assert (await next_event(events)).body == Logged(text="two")
            await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
            assert states([await next_event(events)]) == [JobState.SUCCEEDED]
            with pytest.raises(StopAsyncIteration):
                await next_event(events)

    async def test_every_watch_sees_every_event(self, store: JobStore) -> None:
        job = await claimed(store)
        watches = [asyncio.create_task(all_events(store)) for _ in range(10)]
        for n in range(50):
            await store.record(job.id, job.attempt, [Logged(text=f"{n}-{i}") for i in range(20)])
        await store.finish(job.id, job.attempt, JobState.SUCCEEDED)
        expected = await all_events(store)
        assert len(expected) == 1003
        for seen in await asyncio.gather(*watches):
            assert seen == expected

    async def test_a_watch_that_is_closed_leaves_the_job_alone(self, store: JobStore) -> None:
        job = await claimed(store)
        async with watching(store) as events:
            await next_event(events)
        reading = asyncio.create_task(all_events(store, after=job.last_event))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await store.get(job.id)) == job

    async def test_a_watch_of_a_job_that_is_deleted_says_so(self, store: JobStore) -> None:
        await store.submit(submission())
        async with watching(store) as events:
            assert states([await next_event(events)]) == [JobState.QUEUED]
            await store.cancel("job-1")
            await store.delete("job-1")
            with pytest.raises(JobNotFoundError):
                await next_event(events)
