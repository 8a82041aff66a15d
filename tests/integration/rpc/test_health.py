"""`python -m corral.rpc.health`, which the health checks of containers run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.rpc_builders import SERVICE, echo_service, running, unix_address

from corral.rpc.health import main


async def echo(requests: list[bytes], _context: Any) -> bytes:
    return b"".join(requests)


async def test_a_server_that_serves_is_healthy(tmp_path: Path) -> None:
    async with running(echo_service(echo), unix_address(tmp_path)) as address:
        assert await asyncio.to_thread(main, [address]) == 0
        assert await asyncio.to_thread(main, [address, SERVICE]) == 0


async def test_a_service_that_is_not_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(echo_service(echo), unix_address(tmp_path)) as address:
        assert await asyncio.to_thread(main, [address, "corral.test.Nobody"]) == 1
    assert f"corral.test.Nobody at {address} is not serving." in capsys.readouterr().err


def test_a_server_that_is_not_there_is_not(tmp_path: Path) -> None:
    assert main([unix_address(tmp_path)]) == 1


def test_without_an_address_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
