"""A worker against a real job store, with runs that play scripts: what becomes of each job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.conditions import until
from tests.worker_builders import (
    PlayedRun,
    ScriptedLauncher,
    crashes,
    runs_until_stopped,
    succeeds,
    write_checkpoint,
)

from corral.errors import LaunchError, UnavailableError
from corral.jobs.records import (
    CheckpointPublished,
    Evaluated,
    Event,
    EventBody,
    Job,
    JobState,
    Logged,
    Measured,
    Submission,
)
from corral.jobs.redis_store import RedisJobStore
from corral.jobs.store import JobStore
from corral.launchers.base import RunStatus
from corral.run import SampleAnswer, TrainingRun
from corral.spec import TrainingSpec
from corral.trainer import convert
from corral.trainer.worker.loglines import LONGEST_LINE, MOST_LINES_AT_ONCE
from corral.trainer.worker.loop import Worker
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.run import Tools
from corral.volume import Volume

DATASET = "d" * 64
SECONDS = 20


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def tools(store: JobStore, launcher: ScriptedLauncher, volume: Volume, lease: float = 5.0) -> Tools:
    metrics = WorkerMetrics(CollectorRegistry())
    return Tools(store, launcher, volume, lease, stop_seconds=10.0, metrics=metrics)


@asynccontextmanager
async def working(
    tools: Tools, name: str = "w1", jobs_at_once: int = 1
) -> AsyncIterator[asyncio.Event]:
    """A worker at work; shut down at the end. Yields the event that shuts it down."""
    shutdown = asyncio.Event()
    task = asyncio.create_task(Worker(tools, name, jobs_at_once).run(shutdown))
    try:
        yield shutdown
    finally:
        shutdown.set()
        await asyncio.wait_for(task, SECONDS)


async def submit(store: JobStore, job_id: str = "job-1", **spec: Any) -> Job:
    return await store.submit(Submission(id=job_id, spec=TrainingSpec(**spec), dataset_id=DATASET))


async def events_until_end(store: JobStore, job_id: str = "job-1") -> list[Event]:
    async with asyncio.timeout(SECONDS):
        return [event async for event in store.watch(job_id)]


async def seen(store: JobStore, wanted: Callable[[Event], bool], job_id: str = "job-1") -> Event:
    """The first such event, waited for."""
    async with asyncio.timeout(SECONDS):
        async for event in store.watch(job_id):
            if wanted(event):
                return event
    raise AssertionError("the job ended without it")


def is_measured(event: Event) -> bool:
    return isinstance(event.body, Measured)


def steps_of(events: list[Event]) -> list[int]:
    return [one.body.progress.step for one in events if isinstance(one.body, Measured)]


def log_of(events: list[Event]) -> list[str]:
    return [one.body.text for one in events if isinstance(one.body, Logged)]


def states_of(events: list[Event]) -> list[str]:
    return [one.body.state for one in events if one.body.kind == "state"]


def reasons_of(events: list[Event]) -> list[str]:
    return [one.body.reason for one in events if one.body.kind == "state"]


# ---------------------------------------------------------------- ends


async def test_a_run_that_finishes_makes_its_job_succeed(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        events = await events_until_end(store)
    job = await store.get("job-1")
    assert job.state is JobState.SUCCEEDED
    assert states_of(events) == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    assert steps_of(events) == [1, 2, 3, 4]
    assert [(one.step, one.is_final) for one in job.checkpoints] == [(2, False), (4, True)]
    assert launcher.runs[0].run.dataset_id == DATASET


async def test_a_checkpoint_comes_after_the_steps_that_led_to_it(
    store: RedisJobStore, volume: Volume
) -> None:
    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, succeeds), volume)):
        events = await events_until_end(store)
    order = [
        one.body.progress.step if isinstance(one.body, Measured) else "checkpoint"
        for one in events
        if isinstance(one.body, (Measured, CheckpointPublished))
    ]
    assert order == [1, 2, "checkpoint", 3, 4, "checkpoint"]


async def test_a_users_mistake_fails_the_job_at_once(store: RedisJobStore, volume: Volume) -> None:
    async def refuses(run: PlayedRun) -> None:
        run.print("loading\n")
        run.end("failed", "MODEL_UNSUPPORTED", "This model is of no known architecture.")

    launcher = ScriptedLauncher(volume, refuses)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        await events_until_end(store)
    job = await store.get("job-1")
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == "MODEL_UNSUPPORTED"
    assert job.failure.log_tail == ("loading",)
    assert len(launcher.runs) == 1


async def test_a_full_volume_pauses_the_job_which_goes_on_once_there_is_space(
    store: RedisJobStore, volume: Volume
) -> None:
    async def fills_up(run: PlayedRun) -> None:
        run.step(2)
        run.checkpoint(2)
        run.end("failed", "STORAGE_FULL", "No space is left on the volume.")

    launcher = ScriptedLauncher(volume, fills_up, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        paused = await seen(store, lambda event: "PAUSED" in states_of([event]))
        job = await store.get("job-1")
        assert (job.strikes, [one.step for one in job.checkpoints]) == (0, [2])
        assert "STORAGE_FULL: No space is left" in paused.body.reason
        await store.resume("job-1")
        await events_until_end(store)
    assert (await store.get("job-1")).state is JobState.SUCCEEDED
    assert launcher.runs[1].run.resume_from == "step-00000002-a1"


async def test_a_job_that_is_cancelled_as_the_volume_fills_up_is_cancelled(
    store: RedisJobStore, volume: Volume
) -> None:
    async def fills_up(run: PlayedRun) -> None:
        run.step(2)
        await run.stop_asked.wait()
        run.end("failed", "STORAGE_FULL", "No space is left on the volume.")

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, fills_up), volume)):
        await seen(store, is_measured)
        await store.cancel("job-1")
        await events_until_end(store)
    assert (await store.get("job-1")).state is JobState.CANCELLED


async def test_a_run_that_crashes_three_times_in_a_row_fails_its_job(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, crashes(signal="SIGKILL"))
    await submit(store)
    async with working(tools(store, launcher, volume)):
        await events_until_end(store)
    job = await store.get("job-1")
    assert job.failure is not None
    assert job.failure.code == "TRAINING_CRASHED"
    assert "SIGKILL" in job.failure.message
    assert job.failure.log_tail == ("about to crash",)
    assert len(launcher.runs) == 3


async def test_a_crash_after_a_checkpoint_goes_on_from_it(
    store: RedisJobStore, volume: Volume
) -> None:
    async def crashes_later(run: PlayedRun) -> None:
        run.step(2)
        run.checkpoint(2)

    launcher = ScriptedLauncher(volume, crashes_later, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        events = await events_until_end(store)
    assert steps_of(events) == [2, 3, 4]
    assert launcher.runs[1].run.resume_from == "step-00000002-a1"
    assert (await store.get("job-1")).state is JobState.SUCCEEDED


async def test_a_job_that_fails_leaves_the_worker_for_the_next(
    store: RedisJobStore, volume: Volume
) -> None:
    class Broken(ScriptedLauncher):
        async def start(self, run_file: Path, run: TrainingRun) -> str:
            if run.job_id == "job-1":
                raise RuntimeError("a bug")
            return await super().start(run_file, run)

    await submit(store, "job-1")
    await submit(store, "job-2")
    async with working(tools(store, Broken(volume, succeeds), volume)):
        await events_until_end(store, "job-1")
        await events_until_end(store, "job-2")
    assert (await store.get("job-1")).state is JobState.FAILED
    assert (await store.get("job-2")).state is JobState.SUCCEEDED


async def test_a_run_is_cleared_away_only_after_its_end_is_recorded(
    store: RedisJobStore, volume: Volume
) -> None:
    seen_states = []

    class Watching(ScriptedLauncher):
        async def stop(self, handle: str, grace_seconds: float) -> None:
            seen_states.append((await store.get("job-1")).state)
            await super().stop(handle, grace_seconds)

    await submit(store)
    async with working(tools(store, Watching(volume, succeeds), volume)):
        await events_until_end(store)
    assert seen_states == [JobState.SUCCEEDED]


async def test_a_run_that_can_not_be_cleared_away_has_ended_all_the_same(
    store: RedisJobStore, volume: Volume
) -> None:
    class Stuck(ScriptedLauncher):
        async def stop(self, handle: str, grace_seconds: float) -> None:
            raise LaunchError("The pods do not end.")

    await submit(store, "job-1")
    await submit(store, "job-2")
    async with working(tools(store, Stuck(volume, succeeds), volume)):
        await events_until_end(store, "job-1")
        await events_until_end(store, "job-2")
    assert (await store.get("job-1")).state is JobState.SUCCEEDED


async def test_a_run_that_lost_its_place_resumes_without_a_strike(
    store: RedisJobStore, volume: Volume
) -> None:
    async def evicted(run: PlayedRun) -> RunStatus:
        run.step(1)
        return RunStatus(is_running=False, detail="The node is drained", infrastructure=True)

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, *[evicted] * 4, succeeds), volume)):
        events = await events_until_end(store)
    assert (await store.get("job-1")).state is JobState.SUCCEEDED
    assert (await store.get("job-1")).attempt == 5
    assert "The node is drained; it goes on from the last checkpoint." in reasons_of(events)


async def test_a_launcher_whose_backend_is_away_costs_no_strike(
    store: RedisJobStore, volume: Volume
) -> None:
    class Away(ScriptedLauncher):
        calls = 0

        async def start(self, run_file: Path, run: TrainingRun) -> str:
            self.calls += 1
            if self.calls < 5:
                raise UnavailableError("The API does not answer.")
            return await super().start(run_file, run)

    await submit(store)
    async with working(tools(store, Away(volume, succeeds), volume)):
        await events_until_end(store)
    assert (await store.get("job-1")).state is JobState.SUCCEEDED


async def test_why_a_run_can_not_begin_is_told_once(store: RedisJobStore, volume: Volume) -> None:
    class Full(ScriptedLauncher):
        polls = 0

        async def poll(self, handle: str) -> RunStatus:
            self.polls += 1
            if self.polls < 4:
                return RunStatus(is_running=True, detail="No node can take it yet.")
            return await super().poll(handle)

    await submit(store)
    async with working(tools(store, Full(volume, succeeds), volume)):
        events = await events_until_end(store)
    assert log_of(events) == ["No node can take it yet."]


async def test_a_worker_may_look_after_several_jobs_at_once(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped)
    for job in ("job-1", "job-2", "job-3"):
        await submit(store, job)
    async with working(tools(store, launcher, volume), jobs_at_once=2):
        await until(lambda: len(launcher.running) == 2)
        assert (await store.get("job-3")).state is JobState.QUEUED


# ---------------------------------------------------------------- cancel and shut down


async def test_cancelling_stops_the_run_and_keeps_what_it_saved(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped)
    await submit(store)
    # A lease so long that no renewal can be what notices.
    async with working(tools(store, launcher, volume, lease=3600)):
        await seen(store, is_measured)
        await store.cancel("job-1")
        events = await events_until_end(store)
    job = await store.get("job-1")
    assert job.state is JobState.CANCELLED
    assert states_of(events)[-2:] == ["CANCELLING", "CANCELLED"]
    assert [one.step for one in job.checkpoints] == [1]
    # The second clears away what a backend keeps of an ended run.
    assert launcher.stops == [("job-1/a1", 10.0), ("job-1/a1", 0)]


async def test_a_paused_job_goes_on_from_its_checkpoint_once_it_is_resumed(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume, lease=3600)):
        await seen(store, is_measured)
        await store.pause("job-1")
        await seen(store, lambda event: "PAUSED" in states_of([event]))
        paused = await store.get("job-1")
        assert (paused.strikes, [one.step for one in paused.checkpoints]) == (0, [1])
        assert launcher.running == []
        await store.resume("job-1")
        events = await events_until_end(store)
    assert (await store.get("job-1")).state is JobState.SUCCEEDED
    assert launcher.runs[1].run.resume_from == "step-00000001-a1"
    assert states_of(events)[2:6] == ["RUNNING", "PAUSING", "PAUSED", "QUEUED"]


async def test_what_a_run_prints_when_it_is_stopped_is_not_told(
    store: RedisJobStore, volume: Volume
) -> None:
    async def complains(run: PlayedRun) -> None:
        run.step(1)
        await run.stop_asked.wait()
        run.print("Traceback (most recent call last):\n")
        run.end("stopped")

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, complains), volume)):
        await seen(store, is_measured)
        await store.cancel("job-1")
        events = await events_until_end(store)
    assert log_of(events) == []


async def test_shutting_down_saves_and_gives_the_job_back(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        await seen(store, is_measured)
    job = await store.get("job-1")
    assert (job.state, job.strikes) == (JobState.QUEUED, 0)
    assert [one.step for one in job.checkpoints] == [1]
    assert launcher.running == []
    async with working(tools(store, launcher, volume), "w2"):
        await events_until_end(store)
    assert launcher.runs[1].run.resume_from == "step-00000001-a1"


async def test_a_run_is_given_as_long_as_its_jobs_saves_were_seen_to_take(
    store: RedisJobStore, volume: Volume
) -> None:
    async def saves_slowly(run: PlayedRun) -> None:
        run.step(1)
        run.checkpoint(1, seconds=100.0)
        await run.stop_asked.wait()
        run.end("stopped")

    launcher = ScriptedLauncher(volume, saves_slowly, succeeds)
    await submit(store)
    async with working(tools(store, launcher, volume)):
        await seen(store, lambda event: isinstance(event.body, CheckpointPublished))
    assert launcher.runs[0].run.stop_seconds == 10.0
    assert launcher.stops[0][1] > 200.0
    # Another worker, which has seen nothing of it.
    async with working(tools(store, launcher, volume), "w2"):
        await events_until_end(store)
    assert (launcher.runs[1].run.stop_seconds or 0) > 200.0


async def test_an_idle_worker_shuts_down_at_once(store: RedisJobStore, volume: Volume) -> None:
    async with asyncio.timeout(3), working(tools(store, ScriptedLauncher(volume), volume)):
        pass


# ---------------------------------------------------------------- leases


async def test_a_lost_lease_stops_the_run_and_changes_nothing(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped)
    flaky = FlakyStore(store)
    await submit(store)
    async with working(tools(flaky, launcher, volume, lease=0.3)):
        await seen(store, is_measured)
        flaky.is_away = True
        taken = await claimed_by_another(store)
        flaky.is_away = False
        await until(lambda: not launcher.running)
    job = await store.get("job-1")
    assert (job.attempt, job.worker, job.state) == (taken.attempt, "w2", JobState.STARTING)
    assert launcher.stops == [("job-1/a1", 0)]
    assert job.checkpoints == ()


async def claimed_by_another(store: JobStore) -> Job:
    async with asyncio.timeout(SECONDS):
        while (job := await store.claim("w2", 60)) is None:
            await store.wait_for_work(0.1)
    return job


async def test_the_run_of_a_dead_worker_is_ended_before_its_job_runs_again(
    store: RedisJobStore, volume: Volume
) -> None:
    launcher = ScriptedLauncher(volume, runs_until_stopped, succeeds)
    await submit(store)
    dead = await store.claim("dead", 0.01)
    assert dead is not None
    run = TrainingRun(
        job_id="job-1", attempt=1, dataset_id=DATASET, spec=dead.spec, resume_from=None
    )
    run.write(volume.run("job-1", 1).run_file)
    handle = await launcher.start(volume.run("job-1", 1).run_file, run)
    await store.started("job-1", 1, handle)
    async with working(tools(store, launcher, volume)):
        await events_until_end(store)
    assert launcher.stops[0][0] == handle
    # What it saved when it was asked to stop is not lost.
    assert launcher.runs[1].run.resume_from == "step-00000001-a1"
    assert (await store.get("job-1")).state is JobState.SUCCEEDED


# ---------------------------------------------------------------- checkpoints


async def attempt_that_died(store: JobStore, **spec: Any) -> TrainingRun:
    await submit(store, **spec)
    dead = await store.claim("dead", 0.01)
    assert dead is not None
    return TrainingRun(job_id="job-1", attempt=1, dataset_id=DATASET, spec=dead.spec)


async def test_a_checkpoint_that_was_written_but_not_told_is_adopted(
    store: RedisJobStore, volume: Volume
) -> None:
    write_checkpoint(volume, await attempt_that_died(store), 2)
    launcher = ScriptedLauncher(volume, succeeds)
    async with working(tools(store, launcher, volume)):
        events = await events_until_end(store)
    assert launcher.runs[0].run.resume_from == "step-00000002-a1"
    assert steps_of(events) == [3, 4]


async def test_of_many_that_were_not_told_only_those_that_are_kept_are_adopted(
    store: RedisJobStore, volume: Volume
) -> None:
    run = await attempt_that_died(store, keep_checkpoints=2)
    paths = [write_checkpoint(volume, run, step) for step in (1, 2, 3)]
    async with working(tools(store, ScriptedLauncher(volume, succeeds), volume)):
        events = await events_until_end(store)
    told = [one.body.checkpoint.step for one in events if isinstance(one.body, CheckpointPublished)]
    assert told == [2, 3, 4]
    assert not paths[0].exists()


async def test_a_last_checkpoint_that_was_not_told_needs_no_run(
    store: RedisJobStore, volume: Volume
) -> None:
    write_checkpoint(volume, await attempt_that_died(store), 4)
    launcher = ScriptedLauncher(volume, succeeds)
    async with working(tools(store, launcher, volume)):
        await events_until_end(store)
    assert launcher.runs == []
    assert (await store.get("job-1")).state is JobState.SUCCEEDED


async def test_half_a_checkpoint_is_removed_and_never_listed(
    store: RedisJobStore, volume: Volume
) -> None:
    whole = write_checkpoint(volume, await attempt_that_died(store), 2)
    (whole / "model.safetensors").write_bytes(b"half")
    launcher = ScriptedLauncher(volume, succeeds)
    async with working(tools(store, launcher, volume)):
        await events_until_end(store)
    assert launcher.runs[0].run.resume_from is None
    assert not whole.exists()


async def test_a_damaged_checkpoint_of_a_run_is_told_about_and_not_published(
    store: RedisJobStore, volume: Volume
) -> None:
    async def damages(run: PlayedRun) -> None:
        path = write_checkpoint(run.volume, run.run, 2)
        (path / "model.safetensors").write_bytes(b"half")
        run.tell_checkpoint(2, path.name)
        run.checkpoint(4)
        run.end()

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, damages), volume)):
        events = await events_until_end(store)
    assert [one.step for one in (await store.get("job-1")).checkpoints] == [4]
    assert any("step-00000002-a1" in line for line in log_of(events))


async def test_old_checkpoints_go_and_are_hidden_before_their_files_are(
    store: RedisJobStore, volume: Volume
) -> None:
    class Watching(FlakyStore):
        there: list[bool]

        async def unpublish(self, job_id: str, attempt: int, steps: Sequence[int]) -> Job:
            paths = [volume.checkpoints(job_id) / f"step-{step:08d}-a1" for step in steps]
            self.there = [path.exists() for path in paths]
            return await store.unpublish(job_id, attempt, steps)

    async def saves_often(run: PlayedRun) -> None:
        for step in range(1, 5):
            run.step(step)
            run.checkpoint(step)
        run.end()

    watching = Watching(store)
    await submit(store, keep_checkpoints=2)
    async with working(tools(watching, ScriptedLauncher(volume, saves_often), volume)):
        await events_until_end(store)
    kept = ["step-00000003-a1", "step-00000004-a1"]
    assert [one.folder for one in (await store.get("job-1")).checkpoints] == kept
    assert sorted(path.name for path in volume.checkpoints("job-1").iterdir()) == kept
    assert watching.there == [True]


# ---------------------------------------------------------------- evaluations


async def test_the_best_checkpoint_is_marked_and_never_pruned(
    store: RedisJobStore, volume: Volume
) -> None:
    async def overfits(run: PlayedRun) -> None:
        for step, eval_loss in enumerate((2.0, 1.0, 1.5, 1.7), start=1):
            run.step(step)
            run.checkpoint(step, eval_loss=eval_loss)
        run.end()

    await submit(store, keep_checkpoints=1, eval_split=0.5)
    async with working(tools(store, ScriptedLauncher(volume, overfits), volume)):
        await events_until_end(store)
    job = await store.get("job-1")
    assert [one.step for one in job.checkpoints] == [2, 4]
    assert job.best is job.checkpoints[0]
    kept = sorted(path.name for path in volume.checkpoints("job-1").iterdir())
    assert kept == [one.folder for one in job.checkpoints]
    shown = convert.job_to_proto(job)
    assert [(one.step, one.is_best) for one in shown.checkpoints] == [(2, True), (4, False)]


async def test_an_evaluation_is_told_with_its_answers_and_why_a_run_ended_early_too(
    store: RedisJobStore, volume: Volume
) -> None:
    sample = SampleAnswer(
        prompt="Who?", answer="Me.", tokens=3, stopped=True, repetition=0.0, looping=False
    )

    async def stops_early(run: PlayedRun) -> None:
        run.step(4)
        run.evaluation(4, stop_rate=1.0, samples=(sample,))
        run.checkpoint(4)
        run.end(message="Stopped early: it was good enough.")

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, stops_early), volume)):
        events = await events_until_end(store)
    (evaluated,) = [one.body for one in events if isinstance(one.body, Evaluated)]
    assert (evaluated.step, evaluated.stop_rate, evaluated.samples) == (4, 1.0, (sample,))
    assert states_of(events)[-1] == "SUCCEEDED"
    assert reasons_of(events)[-1] == "Stopped early: it was good enough."


# ---------------------------------------------------------------- log lines


async def test_how_far_the_tokenizing_is_arrives_as_a_line(
    store: RedisJobStore, volume: Volume
) -> None:
    async def script(run: PlayedRun) -> None:
        run.preparing(12_000, 52_002, 9.0)
        await succeeds(run)

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, script), volume)):
        events = await events_until_end(store)
    assert log_of(events) == ["Tokenized 12,000 of about 52,002 rows, about 9.00 s left."]


async def test_log_lines_arrive_plain_short_and_not_too_many(
    store: RedisJobStore, volume: Volume
) -> None:
    async def chatters(run: PlayedRun) -> None:
        run.print("\x1b[31mred\x1b[0m\n" + "x" * 5000 + "\n10%\r20%\r30%\n")
        run.print("".join(f"line {n}\n" for n in range(10_000)))
        run.checkpoint(4)
        run.end()

    await submit(store)
    async with working(tools(store, ScriptedLauncher(volume, chatters), volume)):
        events = await events_until_end(store)
    lines = log_of(events)
    assert lines[0] == "red"
    assert len(lines[1]) == LONGEST_LINE
    assert lines[2] == "30%"
    assert lines[-1] == "line 9999"
    assert len(lines) < 4 * MOST_LINES_AT_ONCE
    assert any("left out" in line for line in lines)


# ---------------------------------------------------------------- outages


class FlakyStore:
    """A store that can be away: before a call reaches it, or after it was carried out."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.is_away = False
        self.loses_answers = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        return call if name == "watch" else self._flaky(call)

    def _flaky(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def maybe(*arguments: Any) -> Any:
            if self.is_away:
                raise UnavailableError("Redis does not answer.")
            answer = await call(*arguments)
            if self.loses_answers:
                self.loses_answers -= 1
                raise UnavailableError("Redis went away before it answered.")
            return answer

        return maybe


async def test_a_run_goes_on_while_the_store_is_away_and_all_is_told_later(
    store: RedisJobStore, volume: Volume
) -> None:
    begun, back = asyncio.Event(), asyncio.Event()

    async def script(run: PlayedRun) -> None:
        run.step(1)
        begun.set()
        await back.wait()
        for step in (2, 3, 4):
            run.step(step)
        run.checkpoint(4)
        run.end()

    flaky = FlakyStore(store)
    launcher = ScriptedLauncher(volume, script)
    await submit(store)
    async with working(tools(flaky, launcher, volume)):
        await begun.wait()
        flaky.is_away = True
        back.set()
        await until(lambda: not launcher.running)
        flaky.is_away = False
        events = await events_until_end(store)
    assert steps_of(events) == [1, 2, 3, 4]
    assert len(launcher.runs) == 1
    assert launcher.stops == [("job-1/a1", 0)]


async def test_events_whose_answer_was_lost_are_not_told_twice(
    store: RedisJobStore, volume: Volume
) -> None:
    class LosesRecords(FlakyStore):
        async def record(self, job_id: str, attempt: int, bodies: Sequence[EventBody]) -> Job:
            self.loses_answers = 1
            return await self._flaky(store.record)(job_id, attempt, bodies)

    await submit(store)
    async with working(tools(LosesRecords(store), ScriptedLauncher(volume, succeeds), volume)):
        events = await events_until_end(store)
    assert steps_of(events) == [1, 2, 3, 4]


async def test_a_worker_told_to_shut_down_does_not_wait_for_a_store_that_is_away(
    store: RedisJobStore, volume: Volume
) -> None:
    flaky = FlakyStore(store)
    launcher = ScriptedLauncher(volume, runs_until_stopped, succeeds)
    await submit(store)
    async with working(tools(flaky, launcher, volume, lease=0.3)):
        await seen(store, is_measured)
        flaky.is_away = True
    assert launcher.running == []
    async with working(tools(store, launcher, volume), "w2"):
        await events_until_end(store)
    # It could not tell of its last checkpoint; the next worker found it.
    assert launcher.runs[1].run.resume_from == "step-00000001-a1"


async def test_steps_that_a_run_made_without_its_worker_are_told_by_the_next(
    store: RedisJobStore, volume: Volume
) -> None:
    await submit(store)
    dead = await store.claim("w1/0", 600)
    assert dead is not None
    run = TrainingRun(job_id="job-1", attempt=1, dataset_id=DATASET, spec=dead.spec)
    run.write(volume.run("job-1", 1).run_file)
    await succeeds(PlayedRun(run, volume.run("job-1", 1), volume))

    async with working(tools(store, ScriptedLauncher(volume, succeeds), volume), name="w1"):
        events = await events_until_end(store)

    job = await store.get("job-1")
    assert job.state is JobState.SUCCEEDED
    assert steps_of(events) == [1, 2, 3, 4]
    assert job.progress is not None
    assert job.progress.step == 4
