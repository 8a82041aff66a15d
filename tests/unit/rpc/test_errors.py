"""Errors that were read back from the wire."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import StatusCode

from corral.errors import (
    BusyError,
    ConflictError,
    CorralError,
    InvalidRequestError,
    Kind,
    UnavailableError,
    all_errors,
)
from corral.rpc.errors import DETAIL_KEY, from_rpc_error
from corral.v1 import common_pb2


class Failed(grpc.RpcError):
    """A call that ended with a status, and maybe a detail."""

    def __init__(self, status: StatusCode, said: str = "", **detail: str) -> None:
        self._status, self._said, self._detail = status, said, detail

    def code(self) -> StatusCode:
        return self._status

    def details(self) -> str:
        return self._said

    def trailing_metadata(self) -> Any:
        if not self._detail:
            return None
        detail = common_pb2.ErrorDetail(**self._detail)
        return (("other", "x"), (DETAIL_KEY, detail.SerializeToString()))


@pytest.mark.parametrize(("code", "cls"), list(all_errors().items()))
def test_each_code_comes_back_as_its_class(code: str, cls: type[CorralError]) -> None:
    error = from_rpc_error(Failed(StatusCode.UNKNOWN, code=code, message="What.", hint="Do."))
    assert type(error) is cls
    assert (error.message, error.hint) == ("What.", "Do.")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (StatusCode.NOT_FOUND, Kind.NOT_FOUND),
        (StatusCode.INVALID_ARGUMENT, Kind.INVALID),
        (StatusCode.DATA_LOSS, Kind.INTERNAL),
    ],
)
def test_a_code_of_a_newer_server_keeps_its_name_and_its_kind(
    status: StatusCode, kind: Kind
) -> None:
    error = from_rpc_error(Failed(status, code="FROM_THE_FUTURE", message="What.", hint="Do."))
    assert (error.code, error.kind, str(error)) == ("FROM_THE_FUTURE", kind, "What. Do.")
    # Nothing of it sticks to the classes that others use.
    assert "FROM_THE_FUTURE" not in all_errors()


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (StatusCode.RESOURCE_EXHAUSTED, BusyError),
        (StatusCode.FAILED_PRECONDITION, ConflictError),
        (StatusCode.OUT_OF_RANGE, InvalidRequestError),
        (StatusCode.UNKNOWN, CorralError),
    ],
)
def test_a_status_without_a_detail_is_told_by_its_kind(
    status: StatusCode, cls: type[CorralError]
) -> None:
    error = from_rpc_error(Failed(status, "the library's words"))
    assert type(error) is cls
    assert "the library's words" in error.message


def test_a_lost_connection_is_told_apart_from_one_that_never_was() -> None:
    never = from_rpc_error(
        Failed(StatusCode.UNAVAILABLE, "failed to connect to all addresses"), "host:1"
    )
    lost = from_rpc_error(Failed(StatusCode.UNAVAILABLE, "Socket closed"), "host:1")
    assert isinstance(never, UnavailableError)
    assert isinstance(lost, UnavailableError)
    assert never.message == "No Corral server answers at host:1."
    assert lost.message == "The connection to Corral at host:1 was lost."
