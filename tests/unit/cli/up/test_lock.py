from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cli.up.lock import LOCK_NAME, FolderLock
from corral.errors import AlreadyRunningError, InvalidRequestError

# Takes a folder's lock, then hands it to a child that waits for its stdin, and dies itself.
HOLDER_THAT_DIES = """
import os, subprocess, sys
from pathlib import Path
from corral.cli.up.lock import FolderLock
lock = FolderLock.acquire(Path(sys.argv[1]), 0, print)
lock.describe("127.0.0.1:7470")
subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[lock.descriptor], stdout=2)
"""


def ignore(_: str) -> None:
    pass


def test_a_second_one_is_refused_with_pid_and_address_of_the_first(tmp_path: Path) -> None:
    first = FolderLock.acquire(tmp_path, 0, ignore)
    first.describe("127.0.0.1:7470")

    with pytest.raises(AlreadyRunningError) as refused:
        FolderLock.acquire(tmp_path, 60, ignore)

    assert str(os.getpid()) in refused.value.message
    assert "127.0.0.1:7470" in refused.value.message
    first.release()


def test_a_released_folder_can_be_locked_again(tmp_path: Path) -> None:
    FolderLock.acquire(tmp_path, 0, ignore).release()

    FolderLock.acquire(tmp_path, 0, ignore).release()


def test_a_lock_file_that_nobody_holds_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text('{"pid": 1, "server": "127.0.0.1:1"}')

    FolderLock.acquire(tmp_path, 0, ignore).release()


@pytest.fixture
def orphan(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A child that still holds the lock of a process that has died; ends with its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER_THAT_DIES, str(tmp_path)], stdin=subprocess.PIPE
    )
    assert process.wait(60) == 0
    return process


def end(orphan: subprocess.Popen[bytes]) -> None:
    assert orphan.stdin is not None
    orphan.stdin.close()


def ending(orphan: subprocess.Popen[bytes], said: list[str]) -> Callable[[str], None]:
    """Ends the orphan as soon as somebody says that it is waited for."""

    def say(text: str) -> None:
        said.append(text)
        end(orphan)

    return say


def test_the_children_of_one_that_was_killed_are_waited_for(
    tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    said: list[str] = []

    FolderLock.acquire(tmp_path, 60, ending(orphan, said)).release()

    assert len(said) == 1
    assert str(orphan.pid) in said[0]


def test_children_that_do_not_end_are_not_waited_for_for_ever(
    tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(AlreadyRunningError):
        FolderLock.acquire(tmp_path, 0.2, ignore)
    end(orphan)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidRequestError, match="file"):
        FolderLock.acquire(tmp_path / "file" / "data", 0, ignore)
