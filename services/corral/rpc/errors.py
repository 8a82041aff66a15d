"""Errors over the wire, both ways: CorralError -> gRPC status -> the same CorralError.

The status carries `corral.v1.ErrorDetail` in its trailing metadata, so a client gets code, message
and hint as they were raised. Knows nothing of what the calls are about.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from corral.errors import (
    BusyError,
    ConflictError,
    CorralError,
    DeadlineError,
    InvalidRequestError,
    Kind,
    UnavailableError,
    all_errors,
)
from corral.v1 import common_pb2

DETAIL_KEY = "corral-error-bin"

# gRPC clients refuse trailers above 8 KiB by default, and the status line is percent-encoded: up
# to 3 bytes for each byte that is not ASCII.
_STATUS_BYTES = 600
_MESSAGE_BYTES = 3000
_HINT_BYTES = 1000

_START_HINT = "Start one with `corral up`, or name another with --server or CORRAL_SERVER."

# For statuses that do not come from a handler of Corral's: the library's own, or a proxy's.
_BY_STATUS: dict[grpc.StatusCode, type[CorralError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
    grpc.StatusCode.CANCELLED: UnavailableError,
}


class RemoteError(CorralError):
    """An error whose code this client does not know: the server is newer than the client."""

    def __init__(self, code: str, kind: Kind, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        vars(self).update(code=code, kind=kind)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: CorralError) -> NoReturn:
    """End a call with the error's status and detail. Raises grpc.aio.AbortError."""
    detail = common_pb2.ErrorDetail(
        code=error.code,
        message=_cut(error.message, _MESSAGE_BYTES),
        hint=_cut(error.hint, _HINT_BYTES),
    )
    await context.abort(
        grpc.StatusCode[error.kind.value.grpc_status],
        _cut(str(error), _STATUS_BYTES),
        ((DETAIL_KEY, detail.SerializeToString()),),
    )


def from_rpc_error(error: grpc.RpcError, address: str = "") -> CorralError:
    """The error that the server raised, or one that says how the call itself failed.

    `address` is the server's, for the sentence about one that does not answer.
    """
    status = error.code()
    detail = _detail_of(error)
    if detail is not None:
        return _rebuild(detail, status)
    said = (error.details() or status.name).rstrip(".")
    if status is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(said, address)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(
            f"Corral{_at(address)} did not answer in time.",
            "Try again; what was asked for may have been done meanwhile.",
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return InvalidRequestError(
            f"What listens{_at(address)} does not offer this call.",
            "Check the address, and that server and client are of one version.",
        )
    return _BY_STATUS.get(status, CorralError)(f"The call failed: {said}.")


def _unavailable(said: str, address: str) -> UnavailableError:
    if "connect" in said.lower() or not said:
        return UnavailableError(f"No Corral server answers{_at(address)}.", _START_HINT)
    return UnavailableError(f"The connection to Corral{_at(address)} was lost.", _START_HINT)


def _detail_of(error: grpc.RpcError) -> common_pb2.ErrorDetail | None:
    # Tuples, whatever the stubs say; None where the call never reached a server.
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == DETAIL_KEY and isinstance(value, bytes):
            return common_pb2.ErrorDetail.FromString(value)
    return None


def _rebuild(detail: common_pb2.ErrorDetail, status: grpc.StatusCode) -> CorralError:
    known = all_errors().get(detail.code)
    if known is not None:
        return known(detail.message, detail.hint)
    kinds = {kind.value.grpc_status: kind for kind in Kind}
    kind = kinds.get(status.name, Kind.INTERNAL)
    return RemoteError(detail.code, kind, detail.message, detail.hint)


def _at(address: str) -> str:
    return f" at {address}" if address else ""


def _cut(text: str, limit: int) -> str:
    """The text, or as much of it as fits into so many bytes of UTF-8."""
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: limit - 3].decode(errors="ignore") + "…"
