"""Modal's gRPC interface over the package's own stubs: calls go to the service that has a method of that
name, and what no service has answers UNIMPLEMENTED and is remembered.

Knows nothing of what the calls mean. A service's method takes the request and the `Caller`, and
returns the response, or yields responses where the interface streams; it raises `refused(…)`.
"""

from __future__ import annotations

import inspect
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from grpclib import GRPCError, Status
from grpclib.server import Server, Stream
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto.api_grpc import ModalClientBase


@dataclass(frozen=True)
class Caller:
    """Who asks: a client with its token, or a container. `key` is the same in a client's retries."""

    token: tuple[str, str]
    task_id: str
    key: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Caller:
        def header(name: str) -> str:
            return str(metadata.get(f"x-{name}", ""))

        token = (header("modal-token-id"), header("modal-token-secret"))
        return cls(token, header("modal-task-id"), header("idempotency-key"))


class Censor(Protocol):
    """May refuse a call before it happens, and its answer afterwards."""

    async def before(self, name: str, caller: Caller) -> object | None:
        """Raise GRPCError to refuse. An answer that was given before answers this call too."""

    async def after(self, name: str, caller: Caller, response: object) -> None:
        """Raise GRPCError to lose the answer."""


@dataclass
class Record:
    """What was asked. `broken` holds tracebacks of the double's own faults."""

    calls: Counter[str] = field(default_factory=Counter)
    unimplemented: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def refused(status: Status, message: str) -> GRPCError:
    """The error to raise for an answer of that status."""
    return GRPCError(status, message)


def servable(services: Sequence[object], censor: Censor, record: Record) -> ModalClientBase:
    """Every call of the interface, from whichever service has it."""
    names = ModalClientBase.__abstractmethods__
    methods = {name: _answering(name, services, censor, record) for name in names}
    return type("Answering", (ModalClientBase,), methods)()


def _answering(
    name: str, services: Sequence[object], censor: Censor, record: Record
) -> Callable[[object, Stream[Any, Any]], Any]:
    found = [getattr(service, name) for service in services if hasattr(service, name)]
    assert len(found) <= 1, f"two services have {name}"

    async def answer(_: object, stream: Stream[Any, Any]) -> None:
        record.calls[name] += 1
        request = await stream.recv_message()
        caller = Caller.of(stream.metadata or {})
        try:
            given = await censor.before(name, caller)
            if given is not None:
                await stream.send_message(given)
            elif not found:
                record.unimplemented.append(name)
                raise refused(Status.UNIMPLEMENTED, f"the double has no {name}")
            elif inspect.isasyncgenfunction(found[0]):
                async for response in found[0](request, caller):
                    await stream.send_message(response)
            else:
                response = await found[0](request, caller)
                await censor.after(name, caller, response)
                await stream.send_message(response)
        except GRPCError:
            raise
        except Exception as fault:
            record.broken.append(traceback.format_exc())
            raise refused(Status.INTERNAL, f"the double is broken: {fault!r}") from fault

    return answer


class RpcServer:
    """Listens on 127.0.0.1, and can be cut off in the middle of everything."""

    def __init__(self, answers: ModalClientBase) -> None:
        self._answers = answers
        self._server: _CuttableServer | None = None

    async def listen(self, port: int = 0) -> int:
        self._server = _CuttableServer([self._answers], status_details_codec=custom_detail_codec)
        await self._server.start("127.0.0.1", port)
        return self._server.port

    async def go_away(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server.cut()
            await self._server.wait_closed()
            self._server = None


class _CuttableServer(Server):
    """grpclib's close() leaves its connections open: a client would wait for ever on them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._protocols: list[Any] = []

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        self._protocols.append(protocol)
        return protocol

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        for protocol in self._protocols:
            connection = getattr(protocol, "connection", None)
            transport = getattr(connection, "_transport", None)
            if transport is not None:
                transport.abort()
