"""`python -m corral.inference` as a process: healthy, answering, drained by SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corral.rpc.channel import open_aio_channel
from corral.rpc.health import wait_until_serving
from corral.v1 import inference_pb2 as pb
from corral.v1 import inference_pb2_grpc
from corral.volume import Volume

pytestmark = pytest.mark.torch

SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def inference_process(
    volume: Volume, redis_url: str, log: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    settings = {
        "CORRAL_DATA": str(volume.root),
        "CORRAL_REDIS_URL": redis_url,
        "CORRAL_INFERENCE_PORT": str(port),
        "CORRAL_TORCH_THREADS": "1",
    }
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "corral.inference", env=os.environ | settings, stderr=stderr
        )
    try:
        address = f"127.0.0.1:{port}"
        await wait_until_serving(address, SECONDS, "corral.v1.Inference")
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_answer_that_has_begun_is_finished_after_sigterm(
    volume: Volume, redis_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with inference_process(volume, redis_url, log) as (process, address):
        async with open_aio_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceStub(channel)
            request = pb.GenerateRequest(
                model="tiny-llama",
                prompt="The quick",
                sampling=pb.SamplingOptions(temperature=0, max_tokens=100),
            )
            call = stub.Generate(request)
            events = [await anext(aiter(call))]
            process.send_signal(signal.SIGTERM)
            events += [event async for event in call]
        assert events[-1].finish.completion_tokens == 100
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    assert "Traceback" not in log.read_text()
