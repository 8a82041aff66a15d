"""Where the embedded server keeps and offers its data; tests/integration/jobs runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import UnavailableError
from corral.jobs.embedded import EmbeddedRedis

SUN_PATH_BYTES = 104


def options(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_every_answered_write_is_on_the_disk(tmp_path: Path) -> None:
    found = options(EmbeddedRedis(tmp_path / "redis").command())
    assert found["--appendonly"] == "yes"
    assert found["--appendfsync"] == "always"
    assert found["--dir"] == str(tmp_path / "redis")


def test_it_listens_on_nothing_but_a_private_socket(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    found = options(server.command())
    assert found["--port"] == "0"
    assert found["--unixsocketperm"] == "700"
    assert server.url == f"unix://{found['--unixsocket']}"


def test_the_socket_lies_in_the_folder_where_its_path_is_short(tmp_path: Path) -> None:
    folder = Path("/data/redis")
    assert EmbeddedRedis(folder).socket.parent == folder


def test_a_long_path_gets_a_short_socket_in_a_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    server = EmbeddedRedis(folder)
    server.command()
    assert len(bytes(server.socket)) < SUN_PATH_BYTES
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert EmbeddedRedis(folder).socket == server.socket
    assert EmbeddedRedis(tmp_path / ("gnol" * 30)).socket != server.socket
    server.socket.parent.rmdir()


def test_a_socket_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / ("open" * 30))
    server.socket.parent.mkdir()
    server.socket.parent.chmod(0o755)
    try:
        with pytest.raises(UnavailableError, match="not a private folder"):
            server.command()
    finally:
        server.socket.parent.rmdir()
