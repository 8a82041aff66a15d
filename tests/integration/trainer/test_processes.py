"""The trainer and the worker as processes: set up from the environment, ended by SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import grpc
import pytest
from tests.job_builders import submission

from corral.jobs.redis_store import RedisJobStore
from corral.rpc.channel import open_aio_channel
from corral.rpc.health import wait_until_serving
from corral.v1 import trainer_pb2 as pb
from corral.v1 import trainer_pb2_grpc

SECONDS = 20


@pytest.fixture
def environment(tmp_path: Path, redis_url: str) -> dict[str, str]:
    return os.environ | {"CORRAL_DATA": str(tmp_path), "REDIS_URL": redis_url}


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def start(module: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module), env=environment, stderr=asyncio.subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Exit code and what it wrote to stderr."""
    _, said = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode, said.decode()


async def said(process: asyncio.subprocess.Process, word: str) -> None:
    """Wait for a line with a word in it."""
    assert process.stderr is not None
    async with asyncio.timeout(SECONDS):
        while word not in (line := (await process.stderr.readline()).decode()):
            assert line, f"ended without {word!r}"


async def test_a_trainer_serves_and_ends_with_0(
    environment: dict[str, str], free_port: int
) -> None:
    process = await start("corral.trainer", environment | {"CORRAL_TRAINER_PORT": str(free_port)})
    address = f"127.0.0.1:{free_port}"
    await wait_until_serving(address, SECONDS, "corral.v1.Trainer")
    async with open_aio_channel(address) as channel:
        stub = trainer_pb2_grpc.TrainerStub(channel)
        assert list((await stub.ListTrainingJobs(pb.ListTrainingJobsRequest())).jobs) == []
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0


async def test_a_trainer_on_a_taken_port_says_so_in_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = await start("corral.trainer", environment | {"CORRAL_TRAINER_PORT": port})
        code, text = await ended(process)
    assert code == 4
    assert f"Something already listens on 127.0.0.1:{port}." in text
    assert "Traceback" not in text


async def test_an_idle_worker_ends_with_0(environment: dict[str, str]) -> None:
    process = await start("corral.trainer.worker", environment)
    await said(process, "waiting for jobs")
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0


async def test_a_worker_waits_for_a_redis_that_is_not_there_yet(
    environment: dict[str, str], free_port: int
) -> None:
    nowhere = {"REDIS_URL": f"redis://127.0.0.1:{free_port}/0"}
    process = await start("corral.trainer.worker", environment | nowhere)
    await said(process, "does not answer")
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0


async def test_a_launcher_that_is_unknown_is_refused_by_name(environment: dict[str, str]) -> None:
    process = await start("corral.trainer.worker", environment | {"CORRAL_LAUNCHER": "slurm"})
    code, text = await ended(process)
    assert code == 2
    assert "no launcher 'slurm'" in text


async def test_an_open_watch_does_not_hold_up_a_trainer_that_drains(
    environment: dict[str, str], free_port: int, redis_url: str
) -> None:
    store = RedisJobStore.connect(redis_url)
    job = await store.submit(submission("job-watched"))
    patient = {"CORRAL_TRAINER_PORT": str(free_port), "CORRAL_DRAIN_SECONDS": "300"}
    process = await start("corral.trainer", environment | patient)
    address = f"127.0.0.1:{free_port}"
    await wait_until_serving(address, SECONDS, "corral.v1.Trainer")
    try:
        async with open_aio_channel(address) as channel:
            stub = trainer_pb2_grpc.TrainerStub(channel)
            watch = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(job_id=job.id))
            assert (await watch.read()).event.number == 1

            process.send_signal(signal.SIGTERM)

            with pytest.raises(grpc.aio.AioRpcError) as lost:
                await watch.read()
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await ended(process))[0] == 0
    finally:
        await store.cancel(job.id)
        await store.delete(job.id)
        await store.close()
