"""The channels of a client without an event loop, and the stubs over them; opened on first use.

Knows nothing of what is called over them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from corral.client.retrying import PATIENCE_SECONDS, Patience
from corral.client.wire import PROBE_SECONDS, reachable_from
from corral.errors import CorralError
from corral.rpc.channel import open_channel, translated_errors
from corral.v1 import inference_pb2_grpc, trainer_pb2, trainer_pb2_grpc

_Result = TypeVar("_Result")


def ignore(*_: Any) -> None:
    """What hears progress where nobody wants to."""


class Channels:
    """The trainer at `server` ("host:port" or "unix:/path"), and the inference that it names.

    Use as a context manager, or call `close`. `key` is sent with each call as a bearer token.
    """

    def __init__(
        self, server: str, *, key: str = "", patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.address = server
        self.patience_seconds = patience_seconds
        self._key = key
        self._channels: list[grpc.Channel] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channels, and with them every call that is open."""
        for channel in self._channels:
            channel.close()

    def server_info(self, seconds: float = PROBE_SECONDS) -> trainer_pb2.GetServerResponse:
        """The server's version and where its inference listens."""
        with translated_errors(self.address):
            request = trainer_pb2.GetServerRequest()
            answer: trainer_pb2.GetServerResponse = self._trainer.GetServer(
                request, timeout=seconds
            )
        return answer

    @cached_property
    def inference_address(self) -> str:
        """Where inference listens, as reached from here."""
        return reachable_from(self.server_info().inference_address, self.address)

    @cached_property
    def _trainer(self) -> trainer_pb2_grpc.TrainerStub:
        return trainer_pb2_grpc.TrainerStub(self._open(self.address))

    @cached_property
    def _inference_channel(self) -> grpc.Channel:
        return self._open(self.inference_address)

    @cached_property
    def _inference(self) -> inference_pb2_grpc.InferenceStub:
        return inference_pb2_grpc.InferenceStub(self._inference_channel)

    def _open(self, address: str) -> grpc.Channel:
        channel = open_channel(address, self._key)
        self._channels.append(channel)
        return channel

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        """Make a call that may be repeated, again and again while the server does not answer."""
        patience = Patience(self.patience_seconds)
        while True:
            try:
                with translated_errors(self.address):
                    return call()
            except CorralError as error:
                pause = patience.pause_after(error)
            time.sleep(pause)
