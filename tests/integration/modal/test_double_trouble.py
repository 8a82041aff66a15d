"""The trouble that the double makes on demand, as the real client sees it."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import modal
import pytest
from grpclib import Status
from modal.exception import (
    AuthError,
    FunctionTimeoutError,
    InternalFailure,
    OutputExpiredError,
    RemoteError,
    ServiceError,
)
from tests.conditions import until
from tests.modal_builders import Deployments, scripted
from tests.modal_double.containers import Container, processes_of
from tests.modal_double.server import ModalDouble

PATIENCE = 20
WAIT_ONCE = "if attempt == 1: wait_for_ever()\nhand_back(attempt)"
INTERRUPTED = """
def leave(*_):
    print("interrupted", flush=True)
    sys.exit(1)
signal.signal(signal.SIGINT, leave)
"""
STUBBORN = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
if attempt == 1:
    if os.fork() == 0:
        os.setsid()
    wait_for_ever()
hand_back(attempt)
"""


class Spawned:
    """A call whose containers follow a script."""

    def __init__(self, double: ModalDouble, call: Any) -> None:
        self._double = double
        self.call = call
        self.id: str = call.object_id
        self.record = double.function_calls[self.id]

    async def waiting(self) -> Container:
        """The first container, once it waits."""
        container = await self._double.running(self.id)
        await until(lambda: "waiting" in container.log)
        return container

    async def value(self) -> Any:
        return await self.call.get.aio(timeout=PATIENCE)


@pytest.fixture
def spawn(double: ModalDouble, deployments: Deployments) -> Any:
    async def spawn(script: str, **options: Any) -> Spawned:
        double.use_container(scripted(script))
        function = await deployments.function(**options)
        return Spawned(double, await function.spawn.aio("x"))

    return spawn


class TestContainers:
    async def test_a_preempted_container_is_warned_and_its_input_starts_again(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        spawned = await spawn(INTERRUPTED + WAIT_ONCE)
        first = await spawned.waiting()
        await double.trouble.preempt(spawned.id)
        assert "interrupted" in first.log
        assert await spawned.value() == 2
        assert spawned.record.failures == 0

    async def test_a_container_that_ignores_the_warning_dies_with_all_it_started(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        double.queue.grace = 0.05
        spawned = await spawn(STUBBORN)
        first = await spawned.waiting()
        await until(lambda: len(processes_of(first.task_id)) == 2)
        await double.trouble.preempt(spawned.id)
        assert processes_of(first.task_id) == []
        assert await spawned.value() == 2

    async def test_a_crash_comes_without_a_warning(self, double: ModalDouble, spawn: Any) -> None:
        spawned = await spawn(INTERRUPTED + WAIT_ONCE)
        first = await spawned.waiting()
        await double.trouble.crash(spawned.id)
        assert "interrupted" not in first.log
        assert await spawned.value() == 2

    async def test_a_timeout_is_retried_as_often_as_the_function_allows(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        retries = modal.Retries(max_retries=1, initial_delay=0.0)
        spawned = await spawn("wait_for_ever()", retries=retries)
        for attempt in (1, 2):
            await double.running(spawned.id, attempt)
            await double.trouble.time_out(spawned.id)
        with pytest.raises(FunctionTimeoutError):
            await spawned.value()
        assert spawned.record.attempts == 2

    async def test_a_timeout_comes_by_itself_too(self, spawn: Any) -> None:
        spawned = await spawn("wait_for_ever()", timeout=1)
        with pytest.raises(FunctionTimeoutError):
            await spawned.value()

    async def test_a_failure_is_retried_as_often_as_the_function_allows(self, spawn: Any) -> None:
        retries = modal.Retries(max_retries=2, initial_delay=0.0)
        spawned = await spawn("sys.exit(attempt)", retries=retries)
        with pytest.raises(RemoteError, match="code 3"):
            await spawned.value()
        assert spawned.record.attempts == 3

    async def test_modal_may_fail_internally(self, double: ModalDouble, spawn: Any) -> None:
        spawned = await spawn("wait_for_ever()")
        await double.trouble.fail_internally(spawned.id)
        with pytest.raises(InternalFailure):
            await spawned.value()

    async def test_an_old_result_is_no_longer_there(self, double: ModalDouble, spawn: Any) -> None:
        spawned = await spawn("hand_back(1)")
        await spawned.value()
        double.trouble.expire(spawned.id)
        with pytest.raises(OutputExpiredError):
            await spawned.call.get.aio(timeout=0)


class TestQueue:
    async def test_the_first_gpu_that_is_free_is_given(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        double.trouble.gpus_gone("H100", "A100-80GB")
        spawned = await spawn("hand_back(1)", gpu=["H100", "A100-80GB", "A10:2"])
        await spawned.value()
        assert spawned.record.gpus_asked == ["H100:1", "A100-80GB:1", "A10:2"]
        assert spawned.record.gpus_got == ["A10:2"]

    async def test_without_a_free_gpu_a_call_waits(self, double: ModalDouble, spawn: Any) -> None:
        double.trouble.gpus_gone("H100")
        spawned = await spawn("hand_back(1)", gpu="H100")
        with pytest.raises(TimeoutError):
            await spawned.call.get.aio(timeout=0)
        assert spawned.record.state == "queued"
        await double.trouble.gpus_back("H100")
        assert await spawned.value() == 1


class TestCancelling:
    async def test_a_queued_call_never_starts(self, double: ModalDouble, spawn: Any) -> None:
        double.trouble.hold_queue()
        spawned = await spawn("hand_back(1)")
        await spawned.call.cancel.aio(terminate_containers=True)
        with pytest.raises(RemoteError):
            await spawned.value()
        await double.trouble.open_queue()
        assert double.containers == []

    async def test_a_running_call_is_interrupted_and_not_retried(self, spawn: Any) -> None:
        spawned = await spawn(INTERRUPTED + "wait_for_ever()", retries=5)
        container = await spawned.waiting()
        await spawned.call.cancel.aio(terminate_containers=True)
        with pytest.raises(RemoteError):
            await spawned.value()
        assert "interrupted" in container.log
        assert container.is_done
        assert spawned.record.attempts == 1

    async def test_the_result_may_be_there_before_the_container_is_gone(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        double.queue.grace, double.queue.cancels_at_once = 60.0, True
        spawned = await spawn(STUBBORN)
        container = await spawned.waiting()
        await spawned.call.cancel.aio(terminate_containers=True)
        with pytest.raises(RemoteError):
            await spawned.value()
        assert not container.is_done


class TestAnswers:
    async def test_the_client_repeats_what_failed(self, double: ModalDouble, spawn: Any) -> None:
        double.trouble.fail_rpc("FunctionMap", Status.UNAVAILABLE)
        assert await (await spawn("hand_back(1)")).value() == 1
        assert len(double.function_calls) == 1

    async def test_what_fails_four_times_has_failed(self, double: ModalDouble, spawn: Any) -> None:
        double.trouble.fail_rpc("FunctionMap", Status.UNAVAILABLE, times=4)
        with pytest.raises(ServiceError):
            await spawn("hand_back(1)")
        assert double.function_calls == {}

    async def test_a_lost_answer_is_given_to_the_clients_next_try(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        double.trouble.lose_answer("FunctionMap")
        assert await (await spawn("hand_back(1)")).value() == 1
        assert len(double.function_calls) == 1

    async def test_an_answer_that_nobody_remembers_starts_it_twice(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        double.trouble.lose_answer("FunctionMap", is_remembered=False)
        assert await (await spawn("hand_back(1)")).value() == 1
        assert len(double.function_calls) == 2

    async def test_tokens_may_be_refused_while_containers_work_on(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        spawned = await spawn("wait_for_ever()")
        await spawned.waiting()
        double.trouble.reject_tokens("expired")
        with pytest.raises(AuthError, match="expired"):
            await spawned.call.get.aio(timeout=0)
        double.trouble.accept_tokens()
        with pytest.raises(TimeoutError):
            await spawned.call.get.aio(timeout=0)

    async def test_a_wrong_token_is_refused(self, double: ModalDouble) -> None:
        client = await modal.Client.from_credentials.aio("ak-other", "as-other")
        with pytest.raises(AuthError):
            await modal.Volume.objects.list.aio(client=client)
        await client.close.aio()

    async def test_the_server_comes_back_and_everything_is_as_it_was(
        self, double: ModalDouble, spawn: Any
    ) -> None:
        spawned = await spawn("wait_for(result_file.parent / 'go')\nhand_back(1)")
        container = await double.running(spawned.id)
        await double.go_away()
        with pytest.raises(modal.exception.ConnectionError):
            await spawned.call.get.aio(timeout=0)
        (container.start.folder / "go").touch()
        await until(lambda: spawned.record.state == "done")
        await double.come_back()
        assert await spawned.value() == 1


class TestTransfers:
    async def test_an_upload_that_failed_is_repeated(
        self, double: ModalDouble, deployments: Deployments
    ) -> None:
        volume = await deployments.volume()
        double.trouble.fail_uploads(1, status=500)
        async with volume.batch_upload.aio() as batch:
            batch.put_file(io.BytesIO(b"data"), "/file")
        assert double.volumes["work"].files == {"file": b"data"}
        assert len(double.http_errors) == 1

    async def test_slow_transfers_come_through_in_the_end(
        self, double: ModalDouble, deployments: Deployments
    ) -> None:
        volume = await deployments.volume()
        gate = double.trouble.hold_transfers()

        async def upload() -> None:
            async with volume.batch_upload.aio() as batch:
                batch.put_file(io.BytesIO(b"data"), "/file")

        uploading = asyncio.create_task(upload())
        await until(lambda: double.calls["VolumePutFiles2"])
        assert double.volumes["work"].files == {}
        gate.set()
        await uploading
        assert double.volumes["work"].files == {"file": b"data"}
