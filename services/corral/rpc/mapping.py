"""The server interceptor that lets no exception out of a handler but as a status of ours.

A CorralError becomes its status with its detail. Anything else is a bug: the log gets the traceback
under an incident id, the client gets that id and nothing of what is inside.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog

from corral.errors import CorralError
from corral.rpc.errors import abort

# Quoted: generic in the stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_log = structlog.stdlib.get_logger(__name__)


class ErrorMapping(grpc.aio.ServerInterceptor):
    """Wraps each handler of a server, of all four kinds of call."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        return wrap_handler(handler, lambda behaviour: _guarded(behaviour, method))


def wrap_handler(handler: Handler, wrap: Callable[[Any], Any]) -> Handler:
    """The handler with its function wrapped; `wrap` returns the same kind of function."""
    if handler.request_streaming:
        if handler.response_streaming:
            kind, behaviour = grpc.stream_stream_rpc_method_handler, handler.stream_stream
        else:
            kind, behaviour = grpc.stream_unary_rpc_method_handler, handler.stream_unary
    elif handler.response_streaming:
        kind, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
    else:
        kind, behaviour = grpc.unary_unary_rpc_method_handler, handler.unary_unary
    return kind(
        wrap(behaviour),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _guarded(behaviour: Any, method: str) -> Any:
    """The same kind of function, since grpc.aio looks whether it generates or returns."""
    if inspect.isasyncgenfunction(behaviour):

        async def generating(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                # Closed here and now, so that the handler's own clean-up runs before the call ends.
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - this is the one place that maps them all
                await _refuse(context, error, method)

        return generating

    async def returning(request: Any, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - this is the one place that maps them all
            await _refuse(context, error, method)

    return returning


async def _refuse(context: Context, error: Exception, method: str) -> NoReturn:
    if isinstance(error, CorralError):
        await abort(context, error)
    incident = secrets.token_hex(4)
    _log.error("handler failed", method=method, incident=incident, exc_info=error)
    await abort(
        context,
        CorralError(
            f"The server failed in a way that nobody foresaw (incident {incident}).",
            f"Look for {incident} in the server's log, and report it.",
        ),
    )
