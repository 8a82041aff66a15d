"""A folder appears whole or not at all."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.bases.placing import place_folder
from corral.errors import StorageFullError


def test_a_folder_is_written_once_however_many_ask(tmp_path: Path) -> None:
    target = tmp_path / "bases" / "model"
    written: list[Path] = []

    def write(folder: Path) -> None:
        written.append(folder)
        (folder / "file").write_text("whole")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: place_folder(target, write), range(8)))
    assert found == [target] * 8
    assert len(written) == 1
    assert (target / "file").read_text() == "whole"


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        place_folder(tmp_path / "model", write)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".model.unpacking-abc"
    left.mkdir()
    place_folder(tmp_path / "model", lambda folder: None)
    assert not left.exists()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFullError):
        place_folder(tmp_path / "model", write)
