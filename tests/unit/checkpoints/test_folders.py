"""A checkpoint's folder appears whole or not at all."""

import os
import time
from pathlib import Path

import pytest

from corral.checkpoints.folders import (
    CheckpointWriter,
    checkpoint_name,
    complete_checkpoints,
    remove_checkpoint,
    remove_leftovers,
)
from corral.checkpoints.manifest import FileEntry, Manifest, Metrics, read_manifest, verify
from corral.errors import CheckpointCorruptError, StorageFailedError, StorageFullError
from corral.spec import TrainingSpec


def manifest_of(step: int, attempt: int, files: dict[str, FileEntry]) -> Manifest:
    return Manifest(
        job_id="job-1",
        attempt=attempt,
        step=step,
        total_steps=100,
        is_final=False,
        base_model="gpt2",
        template={"name": "alpaca"},
        template_sha256="0" * 64,
        tokenizer_sha256="0" * 64,
        spec=TrainingSpec(),
        dataset_id="d" * 64,
        metrics=Metrics(loss=1.0, epoch=0.5),
        created_at=time.time(),
        files=files,
    )


def write_checkpoint(folder: Path, step: int = 10, attempt: int = 1) -> Path:
    writer = CheckpointWriter(folder, step, attempt)
    writer.begin()
    (writer.path / "model.safetensors").write_bytes(b"weights")
    (writer.path / "state").mkdir()
    (writer.path / "state" / "rank-0-of-1.safetensors").write_bytes(b"moments")
    return writer.commit(lambda files: manifest_of(step, attempt, files))


def test_a_committed_checkpoint_verifies_and_lists_every_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    assert folder.name == checkpoint_name(10, 1)
    manifest = verify(folder)
    assert set(manifest.files) == {"model.safetensors", "state/rank-0-of-1.safetensors"}
    assert manifest.size_bytes == 14


def test_a_checkpoint_in_the_making_is_not_listed(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 10, 1)
    writer.begin()
    (writer.path / "model.safetensors").write_bytes(b"half")
    assert complete_checkpoints(tmp_path) == []
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_listed_by_step_not_by_name(tmp_path: Path) -> None:
    for step in (100_000_000, 9, 10):
        write_checkpoint(tmp_path, step)
    assert [read_manifest(path).step for path in complete_checkpoints(tmp_path)] == [
        9,
        10,
        100_000_000,
    ]


def test_the_same_step_of_another_attempt_is_another_folder(tmp_path: Path) -> None:
    first, second = write_checkpoint(tmp_path, 10, 1), write_checkpoint(tmp_path, 10, 2)
    assert complete_checkpoints(tmp_path) == [first, second]


def test_a_name_is_never_written_twice(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(FileExistsError):
        write_checkpoint(tmp_path)
    verify(tmp_path / checkpoint_name(10, 1))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_to_any_file_is_found_and_named(tmp_path: Path, damage: str) -> None:
    folder = write_checkpoint(tmp_path)
    file = folder / "state" / "rank-0-of-1.safetensors"
    if damage == "flip":
        file.write_bytes(b"mOments")
    elif damage == "truncate":
        file.write_bytes(b"momen")
    else:
        file.unlink()
    with pytest.raises(CheckpointCorruptError, match="rank-0-of-1"):
        verify(folder)


def test_a_manifest_that_points_outside_its_folder_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    (tmp_path / "secret").write_bytes(b"x")
    text = (folder / "manifest.json").read_text().replace("model.safetensors", "../secret")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CheckpointCorruptError, match="outside"):
        verify(folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "not json"])
def test_what_is_no_manifest_is_a_corrupt_checkpoint(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointCorruptError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_removed_checkpoint_is_gone_and_removing_it_again_changes_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    remove_checkpoint(folder)
    remove_checkpoint(folder)
    assert list(tmp_path.iterdir()) == []


def test_files_are_hashed_as_they_are_written_by_whoever_writes_them(tmp_path: Path) -> None:
    main, other = (CheckpointWriter(tmp_path, 10, 1) for _ in range(2))
    main.begin()
    main.write("model.safetensors", [b"wei", memoryview(b"ghts")])
    other.write("state/rank-1-of-2.safetensors", [b"moments"])
    other.hand_over(1)
    (main.path / "config.json").write_text("{}")
    folder = main.commit(lambda files: manifest_of(10, 1, files))
    assert list(verify(folder).files) == [
        "config.json",
        "model.safetensors",
        "state/rank-1-of-2.safetensors",
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "state",
    ]


def test_a_file_that_is_shorter_than_what_was_written_is_not_committed(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 10, 1)
    writer.begin()
    writer.write("model.safetensors", [b"weights"])
    (writer.path / "model.safetensors").write_bytes(b"w")
    with pytest.raises(StorageFailedError):
        writer.commit(lambda files: manifest_of(10, 1, files))
    assert complete_checkpoints(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_no_space_while_a_file_is_written_is_said(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 10, 1)
    writer.begin()
    (writer.path / "model.safetensors").symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match="step-00000010-a1"):
        writer.write("model.safetensors", [b"weights" * 100_000])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_disk_that_fails_is_said(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 10, 1)
    writer.begin()
    # A terminal whose other end is gone answers as a broken disk does: with EIO.
    master, terminal = os.openpty()
    os.close(master)
    (writer.path / "model.safetensors").symlink_to(f"/proc/self/fd/{terminal}")
    with pytest.raises(StorageFailedError, match="Input/output error"):
        writer.write("model.safetensors", [b"weights"])
    os.close(terminal)


def test_sizes_alone_can_be_compared(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    (folder / "model.safetensors").write_bytes(b"wEights")
    verify(folder, with_hashes=False)
    (folder / "model.safetensors").write_bytes(b"weight")
    with pytest.raises(CheckpointCorruptError, match="model"):
        verify(folder, with_hashes=False)
