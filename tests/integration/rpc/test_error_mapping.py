"""What a client sees when a handler raises, for each of the four kinds of call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from pydantic import BaseModel
from tests.rpc_builders import SERVICE, call, echo_service, running, unix_address

from corral.errors import (
    CorralError,
    DatasetError,
    DeadlineError,
    InvalidRequestError,
    JobNotFoundError,
    StorageFullError,
    UnavailableError,
)
from corral.rpc.channel import open_aio_channel, open_channel, translated_errors

KINDS = ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"]


def raising(error: Exception) -> Any:
    async def answer(_requests: list[bytes], _context: Any) -> bytes:
        raise error

    return answer


async def echo(requests: list[bytes], _context: Any) -> bytes:
    return b"".join(requests)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_passes_through(kind: str) -> None:
    async with running(echo_service(echo)) as address, open_aio_channel(address) as channel:
        assert await call(channel, kind, b"hay") == [b"hay"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_arrives_as_it_was_raised(kind: str) -> None:
    error = DatasetError("Row 3: no answer — für niemanden.", "Give it one.")
    async with (
        running(echo_service(raising(error), [b"first"])) as address,
        open_aio_channel(address) as channel,
    ):
        with pytest.raises(DatasetError) as caught, translated_errors(address):
            await call(channel, kind, b"x")
    assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (JobNotFoundError("no"), grpc.StatusCode.NOT_FOUND),
        (StorageFullError("no"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (UnavailableError("no"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_each_kind_of_error_has_its_status(error: CorralError, status: Any) -> None:
    async with (
        running(echo_service(raising(error))) as address,
        open_aio_channel(address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "UnaryUnary", b"x")
    assert caught.value.code() is status


class _Row(BaseModel):
    size: int


def _validation_error() -> Exception:
    try:
        _Row.model_validate({"size": "secret"})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), _validation_error()])
async def test_a_bug_tells_the_client_an_incident_and_nothing_else(
    kind: str, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        running(echo_service(raising(error))) as address,
        open_aio_channel(address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, kind, b"x")
        with pytest.raises(CorralError) as translated, translated_errors(address):
            await call(channel, kind, b"x")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert translated.value.code == "INTERNAL"
    incident = translated.value.message.partition("incident ")[2].partition(")")[0]
    assert incident in translated.value.hint
    assert incident in capsys.readouterr().out


async def test_a_handlers_own_abort_is_left_alone() -> None:
    async def answer(_requests: list[bytes], context: Any) -> bytes:
        await context.abort(grpc.StatusCode.ABORTED, "own words")
        raise AssertionError

    async with running(echo_service(answer)) as address, open_aio_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "UnaryUnary", b"x")
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.ABORTED,
        "own words",
    )


async def test_a_message_of_any_length_fits_into_the_trailers() -> None:
    error = DatasetError("ü" * 50_000, "é" * 50_000)
    async with (
        running(echo_service(raising(error))) as address,
        open_aio_channel(address) as channel,
    ):
        with pytest.raises(DatasetError, match="üüü") as caught, translated_errors(address):
            await call(channel, "UnaryUnary", b"x")
    assert caught.value.hint.endswith("…")


async def test_no_server_is_a_sentence_with_a_next_step(tmp_path: Any) -> None:
    address = unix_address(tmp_path)
    async with open_aio_channel(address) as channel:
        with (
            pytest.raises(UnavailableError, match="No Corral server answers") as caught,
            translated_errors(address),
        ):
            await call(channel, "UnaryUnary", b"x")
    assert "corral up" in caught.value.hint


def test_a_blocking_client_gets_the_same_sentence() -> None:
    with (
        open_channel("127.0.0.1:1") as channel,
        pytest.raises(UnavailableError, match=r"at 127\.0\.0\.1:1\."),
        translated_errors("127.0.0.1:1"),
    ):
        channel.unary_unary(f"/{SERVICE}/UnaryUnary")(b"x")


async def test_an_unknown_call_says_that_versions_may_differ() -> None:
    async with running(echo_service(echo)) as address, open_aio_channel(address) as channel:
        with pytest.raises(InvalidRequestError, match="does not offer"), translated_errors(address):
            await call(channel, "Unheard", b"x")


async def test_a_deadline_that_passes_is_a_deadline_error() -> None:
    async def never(_requests: list[bytes], context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with running(echo_service(never)) as address, open_aio_channel(address) as channel:
        with pytest.raises(DeadlineError), translated_errors(address):
            await call(channel, "UnaryStream", b"x", timeout=0.05)
