"""Jobs on Modal from the queue to their end: a worker, the real launcher, and a double of Modal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib import Status
from prometheus_client import CollectorRegistry
from tests.conditions import until
from tests.fakes import MemoryJobStore
from tests.modal_double.server import ModalDouble
from tests.modal_launchers import modal_launcher, quick_training, write_rows

from corral.checkpoints.folders import complete_checkpoints
from corral.checkpoints.manifest import verify
from corral.jobs.records import Event, Job, JobState, Logged, Measured, Spent, Submission
from corral.launchers.modal.launcher import ModalLauncher
from corral.spec import TrainingSpec
from corral.trainer.worker.loop import Worker
from corral.trainer.worker.metrics import WorkerMetrics
from corral.trainer.worker.run import Tools
from corral.volume import Volume

pytest.importorskip("modal")

LEASE = 5.0
SECONDS = 45


class Deployment:
    """A job store, a volume, and workers whose launchers talk to the double."""

    def __init__(self, double: ModalDouble, data: Path) -> None:
        write_rows(data)
        self.double = double
        self.volume = Volume(data)
        self.store = MemoryJobStore()

    async def submit(self, job: str = "job-1", **spec: Any) -> Job:
        fields = {"max_steps": 4, "checkpoint_every": 2, "model": "gpt2", **spec}
        submission = Submission(id=job, spec=TrainingSpec(**fields), dataset_id="d" * 64)
        return await self.store.submit(submission)

    @asynccontextmanager
    async def working(
        self, seconds_a_step: float = 0.0, name: str = "w1"
    ) -> AsyncIterator[ModalLauncher]:
        """A worker at work, shut down at the end."""
        launcher = modal_launcher(self.double, self.volume.root, quick_training(seconds_a_step))
        metrics = WorkerMetrics(CollectorRegistry())
        tools = Tools(self.store, launcher, self.volume, LEASE, stop_seconds=10.0, metrics=metrics)
        shutdown = asyncio.Event()
        task = asyncio.create_task(Worker(tools, name, 1).run(shutdown))
        try:
            yield launcher
        finally:
            shutdown.set()
            await asyncio.wait_for(task, SECONDS)
            await launcher.close()

    async def ended(self, job: str = "job-1") -> Job:
        """The job once it has ended and nothing of it is left on Modal."""
        async with asyncio.timeout(SECONDS):
            async for _ in self.store.watch(job):
                pass
        found = await self.store.get(job)
        await until(lambda: not self.double.volumes, SECONDS)
        assert not self.running_calls()
        return found

    async def step(self, step: int, job: str = "job-1") -> None:
        """Return once the job's record shows so many steps."""
        async with asyncio.timeout(SECONDS):
            async for event in self.store.watch(job):
                if isinstance(event.body, Measured) and event.body.progress.step >= step:
                    return
        raise AssertionError(await self.store.get(job))

    async def told(self, text: str, job: str = "job-1") -> None:
        """Return once a line of the job's log says so."""
        async with asyncio.timeout(SECONDS):
            async for event in self.store.watch(job):
                if isinstance(event.body, Logged) and text in event.body.text:
                    return
        raise AssertionError(await self.store.get(job))

    async def call(self) -> str:
        """The id of the first call, once there is one with a container."""
        await until(lambda: any(one.container for one in self.double.function_calls.values()))
        return next(iter(self.double.function_calls))

    def running_calls(self) -> list[str]:
        calls = self.double.function_calls
        return [name for name, call in calls.items() if not call.finished.is_set()]

    async def events(self, job: str = "job-1") -> list[Event]:
        return [event async for event in self.store.watch(job)]

    def home(self, job: str = "job-1") -> list[int]:
        """Steps of the checkpoints that are here, each verified."""
        folder = self.volume.checkpoints(job)
        return [verify(path).step for path in complete_checkpoints(folder)]


@pytest.fixture
def deployment(double: ModalDouble, tmp_path: Path) -> Deployment:
    return Deployment(double, tmp_path / "data")


def steps_of(events: list[Event]) -> list[int]:
    return [one.body.progress.step for one in events if isinstance(one.body, Measured)]


async def test_a_job_ends_with_everything_home_and_nothing_left_over_there(
    deployment: Deployment,
) -> None:
    await deployment.submit(gpu="H100,A10:2", gradient_accumulation_steps=8)
    async with deployment.working():
        job = await deployment.ended()
    assert job.state is JobState.SUCCEEDED
    assert [one.step for one in job.checkpoints] == deployment.home() == [2, 4]
    assert job.spending is not None
    assert job.spending.gpu == "H100"
    assert job.spending.running_seconds > 0
    assert job.spending.cost is not None
    assert job.spending.cost > 0
    events = await deployment.events()
    assert steps_of(events) == [1, 2, 3, 4]
    assert "1 processes, after step 0" in [
        one.body.text for one in events if isinstance(one.body, Logged)
    ]
    assert {one.body.gpu for one in events if isinstance(one.body, Spent)} == {"H100"}


async def test_the_next_gpu_of_the_list_is_taken_with_the_batch_as_it_was(
    deployment: Deployment,
) -> None:
    deployment.double.trouble.gpus_gone("H100")
    await deployment.submit(gpu="H100,A10:2")
    async with deployment.working():
        assert (await deployment.ended()).state is JobState.SUCCEEDED
    [container] = deployment.double.containers
    assert container.start.gpu == "A10:2"
    log = (deployment.volume.run("job-1", 1).log).read_text()
    assert "2 processes" in log


async def test_a_cancelled_run_saves_first(deployment: Deployment) -> None:
    await deployment.submit(max_steps=500, checkpoint_every=500)
    async with deployment.working(0.05):
        await deployment.step(1)
        await deployment.store.cancel("job-1")
        job = await deployment.ended()
    assert job.state is JobState.CANCELLED
    assert len(deployment.home()) == 1


async def test_a_spent_budget_ends_the_run_with_a_checkpoint(deployment: Deployment) -> None:
    # An L4 with 4 cores and 16 GiB is $0.00031 a second.
    await deployment.submit(max_steps=500, checkpoint_every=500, max_cost=0.0005)
    async with deployment.working(0.05):
        job = await deployment.ended()
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == "BUDGET_REACHED"
    assert [one.step for one in job.checkpoints] == deployment.home() != []


@pytest.mark.parametrize("how", ["preempt", "crash", "time_out"])
async def test_a_container_that_is_taken_away_costs_no_more_than_the_steps_since_the_checkpoint(
    deployment: Deployment, how: str
) -> None:
    await deployment.submit(
        max_steps=30, checkpoint_every=5, gpu="H100,A10:2", gradient_accumulation_steps=8
    )
    async with deployment.working(0.05):
        call = await deployment.call()
        await until(deployment.home)
        # The next container gets others, and so another world size.
        deployment.double.trouble.gpus_gone("H100")
        await getattr(deployment.double.trouble, how)(call)
        job = await deployment.ended()
    assert job.state is JobState.SUCCEEDED
    assert job.attempt == 1
    assert len(deployment.double.function_calls) == 1
    assert [one.start.gpu for one in deployment.double.containers] == ["H100:1", "A10:2"]
    log = deployment.volume.run("job-1", 1).log.read_text()
    assert "1 processes, after step 0" in log
    assert "2 processes, after step " in log
    assert log.count("after step") == 2


async def test_a_worker_that_comes_back_goes_on_with_the_run_that_is_there(
    deployment: Deployment,
) -> None:
    await deployment.submit(max_steps=60, checkpoint_every=10)
    async with deployment.working(0.05, "w1"):
        await deployment.step(3)
        # Its lease is over while it is busy elsewhere.
        deployment.store.now += 2 * LEASE
        async with deployment.working(0.05, "w2"):
            job = await deployment.ended()
    assert job.state is JobState.SUCCEEDED
    assert job.attempt > 1
    assert len(deployment.double.containers) == 1
    steps = steps_of(await deployment.events())
    assert steps == list(range(1, 61))


async def test_a_job_waits_in_the_queue_and_can_be_cancelled_there(
    deployment: Deployment,
) -> None:
    deployment.double.trouble.hold_queue()
    await deployment.submit()
    async with deployment.working():
        await until(lambda: deployment.double.function_calls)
        await deployment.store.cancel("job-1")
        job = await deployment.ended()
    assert job.state is JobState.CANCELLED
    assert deployment.double.containers == []


async def test_an_outage_in_the_middle_costs_nothing(deployment: Deployment) -> None:
    await deployment.submit(max_steps=20, checkpoint_every=5)
    async with deployment.working(0.05):
        await deployment.step(1)
        await deployment.double.go_away()
        await deployment.told("Modal does not answer")
        await deployment.double.come_back()
        job = await deployment.ended()
    assert job.state is JobState.SUCCEEDED
    assert len(deployment.double.containers) == 1


async def test_a_bad_token_fails_the_job_with_what_to_do(deployment: Deployment) -> None:
    deployment.double.trouble.reject_tokens("bad")
    await deployment.submit()
    async with deployment.working():
        job = await deployment.ended()
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == "BACKEND_REFUSED"
    assert "MODAL_TOKEN_ID" in job.failure.message
    assert deployment.double.token_secret not in job.model_dump_json()


async def test_a_kept_volume_stays(deployment: Deployment) -> None:
    await deployment.submit(keep_volume=True)
    async with deployment.working() as launcher:
        assert [event async for event in deployment.store.watch("job-1")]
        await launcher.reap(everything_is_over)
    assert list(deployment.double.volumes) == ["corral-0a1b2c3d-job-1"]


async def test_what_a_forgotten_job_left_is_ended_and_removed(
    deployment: Deployment, tmp_path: Path
) -> None:
    await deployment.submit(max_steps=500)
    async with deployment.working(0.05) as launcher:
        await deployment.step(1)
        await launcher.reap(everything_is_over)
        assert deployment.double.volumes == {}
        assert deployment.running_calls() == []


async def everything_is_over(job: str) -> bool:
    return True


CALLS_TO_FAIL_IN_A_JOB = 4

Fault = Callable[[ModalDouble, str], None]


def loses_the_answer(double: ModalDouble, name: str) -> None:
    double.trouble.lose_answer(name)


def refuses_for_a_while(double: ModalDouble, name: str) -> None:
    # More often than modal's client asks again by itself.
    double.trouble.fail_rpc(name, Status.UNAVAILABLE, times=5)


@pytest.mark.parametrize("fault", [loses_the_answer, refuses_for_a_while])
async def test_whatever_call_fails_a_job_ends_and_leaves_no_volume(
    deployment: Deployment, fault: Fault
) -> None:
    async with deployment.working():
        await deployment.submit("job-0")
        await deployment.ended("job-0")
        names = sorted(deployment.double.calls)
        # Several in each job, and of different kinds: a job for each takes a minute.
        groups = len(names) // CALLS_TO_FAIL_IN_A_JOB + 1
        for group in range(groups):
            failing = names[group::groups]
            for name in failing:
                fault(deployment.double, name)
            await deployment.submit(f"job-{group + 1}")
            job = await deployment.ended(f"job-{group + 1}")
            assert job.state is JobState.SUCCEEDED, (failing, job)


async def test_failed_transfers_are_made_again(deployment: Deployment) -> None:
    deployment.double.trouble.fail_uploads(2)
    deployment.double.trouble.fail_downloads(3)
    await deployment.submit()
    async with deployment.working():
        assert (await deployment.ended()).state is JobState.SUCCEEDED
    assert deployment.home() == [2, 4]
