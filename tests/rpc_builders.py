"""A small gRPC service with one method of each kind, whose behaviour a test gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from corral.rpc.serving import GrpcServer, Register
from corral.settings import Settings

SERVICE = "corral.test.Echo"

# What every method of the service does with the requests it got: return or raise.
Answer = Callable[[list[bytes], Any], Awaitable[bytes]]


def echo_service(answer: Answer, before_answer: Sequence[bytes] = ()) -> Register:
    """The four kinds of call; streams of responses begin with `before_answer`."""

    async def unary_unary(request: bytes, context: Any) -> bytes:
        return await answer([request], context)

    async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for response in before_answer:
            yield response
        yield await answer([request], context)

    async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await answer([request async for request in requests], context)

    async def stream_stream(requests: AsyncIterator[bytes], context: Any) -> None:
        got = [request async for request in requests]
        for response in before_answer:
            await context.write(response)
        await context.write(await answer(got, context))

    methods = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }

    def register(server: grpc.aio.Server) -> Sequence[str]:
        handler = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers((handler,))
        return (SERVICE,)

    return register


@asynccontextmanager
async def running(
    register: Register,
    address: str = "127.0.0.1:0",
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    **settings: Any,
) -> AsyncIterator[str]:
    """A served address, drained at the end."""
    server = GrpcServer(
        register, address=address, settings=Settings(**settings), interceptors=interceptors
    )
    bound = await server.start()
    try:
        yield bound
    finally:
        await server.drain(0)


async def call(channel: grpc.aio.Channel, kind: str, request: bytes, **options: Any) -> list[bytes]:
    """One call of a kind, e.g. "StreamUnary"; all of its responses."""
    path = f"/{SERVICE}/{kind}"

    async def requests() -> AsyncIterator[bytes]:
        yield request

    if kind == "UnaryUnary":
        return [await channel.unary_unary(path)(request, **options)]
    if kind == "StreamUnary":
        return [await channel.stream_unary(path)(requests(), **options)]
    if kind == "UnaryStream":
        return [item async for item in channel.unary_stream(path)(request, **options)]
    return [item async for item in channel.stream_stream(path)(requests(), **options)]


def unix_address(folder: Path) -> str:
    """A socket below a test's folder."""
    return f"unix:{folder / 's'}"
