"""Servers that start where they are told, say how they are, and end without dropping a call."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.rpc_builders import SERVICE, call, echo_service, running, unix_address

from corral.errors import AlreadyRunningError, UnavailableError
from corral.rpc.channel import (
    CHECKING_SECONDS,
    STREAM_SECONDS,
    UNARY_SECONDS,
    open_aio_channel,
    open_channel,
)
from corral.rpc.health import wait_until_serving
from corral.rpc.serving import GrpcServer, join_address
from corral.settings import Settings

KINDS = ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"]


async def remaining(_requests: list[bytes], context: Any) -> bytes:
    return str(context.time_remaining()).encode()


async def echo(requests: list[bytes], _context: Any) -> bytes:
    return b"".join(requests)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [(kind, UNARY_SECONDS if kind == KINDS[0] else STREAM_SECONDS) for kind in KINDS],
)
async def test_a_call_without_a_deadline_gets_the_default(kind: str, seconds: float) -> None:
    async with running(echo_service(remaining)) as address, open_aio_channel(address) as channel:
        [left] = await call(channel, kind, b"")
    # The wire rounds long deadlines up by up to a per cent.
    assert seconds * 0.9 < float(left) < seconds * 1.01


@pytest.mark.parametrize("kind", KINDS)
async def test_a_callers_own_deadline_is_kept(kind: str) -> None:
    async with running(echo_service(remaining)) as address, open_aio_channel(address) as channel:
        [left] = await call(channel, kind, b"", timeout=7200)
    assert 7000 < float(left) < 7300


async def test_blocking_calls_get_the_same_deadlines() -> None:
    def ask(address: str) -> list[float]:
        with open_channel(address) as channel:
            path = f"/{SERVICE}/"
            return [
                float(channel.unary_unary(path + "UnaryUnary")(b"")),
                float(next(channel.unary_stream(path + "UnaryStream")(b""))),
                float(channel.stream_unary(path + "StreamUnary")(iter([b""]))),
                float(next(channel.stream_stream(path + "StreamStream")(iter([b""])))),
            ]

    async with running(echo_service(remaining)) as address:
        unary, *streams = await asyncio.to_thread(ask, address)
    assert UNARY_SECONDS * 0.9 < unary < UNARY_SECONDS * 1.01
    assert all(STREAM_SECONDS * 0.9 < left < STREAM_SECONDS * 1.01 for left in streams)


def test_a_call_that_checks_every_row_may_take_longer() -> None:
    assert CHECKING_SECONDS > UNARY_SECONDS


async def test_health_answers_for_the_service_and_for_the_whole(tmp_path: Path) -> None:
    async with running(echo_service(echo), unix_address(tmp_path)) as address:
        await wait_until_serving(address, 5)
        await wait_until_serving(address, 5, SERVICE)
        with pytest.raises(UnavailableError, match="not ready after"):
            await wait_until_serving(address, 0.2, "corral.test.Nobody")


async def test_waiting_for_a_server_ends_when_it_comes(tmp_path: Path) -> None:
    address = unix_address(tmp_path)
    waiting = asyncio.create_task(wait_until_serving(address, 10))
    await asyncio.sleep(0)
    async with running(echo_service(echo), address):
        await waiting


async def test_reflection_is_behind_a_setting() -> None:
    async def listed(address: str) -> list[str]:
        async with open_aio_channel(address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            [answer] = [one async for one in stub.ServerReflectionInfo(iter([request]))]
            return [service.name for service in answer.list_services_response.service]

    async with running(echo_service(echo), reflection=True) as address:
        assert SERVICE in await listed(address)
    async with running(echo_service(echo), reflection=False) as address:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(address)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_refused_by_name() -> None:
    async with running(echo_service(echo)) as address:
        with pytest.raises(AlreadyRunningError, match=address):
            await GrpcServer(echo_service(echo), address=address, settings=Settings()).start()


async def test_a_taken_unix_socket_is_refused_and_stays_the_first_ones(tmp_path: Path) -> None:
    address = unix_address(tmp_path)
    async with running(echo_service(echo), address):
        with pytest.raises(AlreadyRunningError):
            await GrpcServer(echo_service(echo), address=address, settings=Settings()).start()
        async with open_aio_channel(address) as channel:
            assert await call(channel, "UnaryUnary", b"still") == [b"still"]


async def test_a_socket_file_that_a_dead_server_left_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with running(echo_service(echo), unix_address(tmp_path)) as address:
        await wait_until_serving(address, 5)


@pytest.mark.parametrize(
    "address", ["no-such-host.invalid:80", "192.0.2.1:80", "127.0.0.1:no-port", "unix:/no/such/s"]
)
async def test_an_impossible_address_is_a_clear_error(address: str) -> None:
    with pytest.raises(UnavailableError, match=address.partition(":")[0]):
        await GrpcServer(echo_service(echo), address=address, settings=Settings()).start()


async def test_a_request_above_the_limit_is_refused() -> None:
    async with running(echo_service(echo)) as address, open_aio_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "UnaryUnary", b"x" * (5 * 1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_ipv6_host_is_written_in_brackets() -> None:
    assert join_address("::1", 80) == "[::1]:80"
    assert join_address("127.0.0.1", 80) == "127.0.0.1:80"


# ---------------------------------------------------------------- draining

DRAINING_SERVER = """
import asyncio, sys
from corral.logging import configure_logging
from corral.rpc.serving import serve
from corral.settings import Settings
from tests.rpc_builders import echo_service

async def wait_for_line(requests, context):
    return (await asyncio.to_thread(sys.stdin.readline)).encode()

configure_logging("info")
asyncio.run(serve(
    echo_service(wait_for_line, [b"begun"]),
    address="127.0.0.1:0",
    settings=Settings(drain_seconds=float(sys.argv[1])),
    on_ready=lambda address: print(address, flush=True),
))
"""


async def start_server(drain_seconds: float) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DRAINING_SERVER,
        str(drain_seconds),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_an_open_stream_finish_and_exits_0(number: signal.Signals) -> None:
    process, address = await start_server(drain_seconds=30)
    assert process.stdin is not None
    async with open_aio_channel(address) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/UnaryStream")(b"")
        assert await stream.read() == b"begun"
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(number)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        process.stdin.write(b"the end\n")
        assert await stream.read() == b"the end\n"
        assert await stream.read() is grpc.aio.EOF
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_stream_that_does_not_finish_is_ended_after_the_grace_period() -> None:
    process, address = await start_server(drain_seconds=0.1)
    async with open_aio_channel(address) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/UnaryStream")(b"")
        assert await stream.read() == b"begun"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_second_signal_does_not_wait_for_streams() -> None:
    process, address = await start_server(drain_seconds=300)
    async with open_aio_channel(address) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/UnaryStream")(b"")
        assert await stream.read() == b"begun"
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGINT)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGINT)
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 0
