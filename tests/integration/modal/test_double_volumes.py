"""The double's volumes: files from outside, and what containers see of them and give back."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import modal
import pytest
from modal.types import FileEntryType
from tests.conditions import until
from tests.modal_builders import MOUNT, Deployments, scripted
from tests.modal_double import sample
from tests.modal_double.mounts import Mount, Volume
from tests.modal_double.server import ModalDouble

PATIENCE = 20
MIB = 1024 * 1024
NEVER = 1000.0


async def put(volume: modal.Volume, **files: str) -> None:
    async with volume.batch_upload.aio(force=True) as batch:
        for name, text in files.items():
            batch.put_file(io.BytesIO(text.encode()), f"/{name}")


async def content(volume: modal.Volume, path: str) -> bytes:
    return b"".join([chunk async for chunk in volume.read_file.aio(path)])


async def started(double: ModalDouble, deployments: Deployments, script: str) -> Any:
    """A call whose container follows the script, with the volume mounted."""
    double.use_container(scripted(script))
    function = await deployments.function(volumes={MOUNT: await deployments.volume()})
    return await function.spawn.aio("x")


async def test_files_of_several_blocks_come_back_as_they_went(
    double: ModalDouble, deployments: Deployments, tmp_path: Path
) -> None:
    volume = await deployments.volume()
    data = os.urandom(9 * MIB) + bytes(9 * MIB)
    (tmp_path / "big").write_bytes(data)
    for _ in range(2):
        async with volume.batch_upload.aio(force=True) as batch:
            batch.put_file(tmp_path / "big", "/deep/down/big")
            batch.put_file(io.BytesIO(b""), "/empty")
        # Neither zeros at the end nor blocks that are there already are sent.
        assert double.uploaded_bytes == 9 * MIB
    assert await content(volume, "deep/down/big") == data
    assert await content(volume, "/empty") == b""


async def test_files_are_listed_and_removed(deployments: Deployments) -> None:
    volume = await deployments.volume()
    await put(volume, **{"runs/a/log.txt": "log", "runs/b/log.txt": "log", "top": "t"})
    entries = await volume.listdir.aio("/runs", recursive=True)
    files = {entry.path for entry in entries if entry.type == FileEntryType.FILE}
    assert files == {"runs/a/log.txt", "runs/b/log.txt"}
    assert {entry.path for entry in await volume.listdir.aio("/")} == {"runs", "top"}
    await volume.remove_file.aio("runs/a", recursive=True)
    await volume.remove_file.aio("/top")
    assert {entry.path for entry in await volume.listdir.aio("/runs")} == {"runs/b"}


async def test_what_is_not_there_is_not_found(deployments: Deployments) -> None:
    volume = await deployments.volume()
    with pytest.raises(FileNotFoundError):
        await content(volume, "nothing")
    with pytest.raises(FileNotFoundError):
        await volume.remove_file.aio("nothing")
    with pytest.raises(modal.exception.NotFoundError):
        await volume.listdir.aio("/nothing")
    with pytest.raises(modal.exception.NotFoundError):
        await modal.Volume.from_name("none", client=deployments.client).hydrate.aio()


async def test_an_upload_that_may_not_overwrite_does_not(deployments: Deployments) -> None:
    volume = await deployments.volume()
    await put(volume, file="first")
    with pytest.raises(FileExistsError):
        async with volume.batch_upload.aio() as batch:
            batch.put_file(io.BytesIO(b"second"), "/file")
    assert await content(volume, "file") == b"first"


async def test_volumes_are_listed_newest_first_and_deleted(
    double: ModalDouble, deployments: Deployments
) -> None:
    for name in ("old", "new"):
        await deployments.volume(name)
    listed = await modal.Volume.objects.list.aio(client=deployments.client)
    assert [volume.name for volume in listed] == ["new", "old"]
    await modal.Volume.objects.delete.aio("old", client=deployments.client)
    assert list(double.volumes) == ["new"]
    assert double.deleted_volumes == ["old"]


async def test_a_reader_goes_on_with_the_file_that_it_opened(
    double: ModalDouble, deployments: Deployments
) -> None:
    volume = await deployments.volume()
    await put(volume, file="the first")
    gate = double.trouble.hold_transfers()
    reader = volume.read_file.aio("file")
    first = asyncio.ensure_future(anext(reader))
    await until(lambda: double.calls["VolumeGetFile2"])
    gate.set()
    await put(volume, file="the second")
    assert await first == b"the first"


async def test_files_of_a_container_are_seen_outside_once_committed(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.sync_every = NEVER
    script = """
(volume / "a").write_text("1")
wait_for(volume.parent / "commit")
knock("commit")
wait_for_ever()
"""
    call = await started(double, deployments, script)
    container = await double.running(call.object_id)
    folder = container.start.volumes[MOUNT]
    await until((folder / "a").exists)
    assert double.volumes["work"].files == {}
    (folder.parent / "commit").touch()
    await until(lambda: double.volumes["work"].files == {"a": b"1"})


async def test_files_of_a_container_go_out_in_the_background(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.sync_every = 0.01
    script = """
(volume / "a").write_text("1")
(volume / "b").write_text("2")
wait_for(volume.parent / "delete")
(volume / "b").unlink()
wait_for_ever()
"""
    call = await started(double, deployments, script)
    container = await double.running(call.object_id)
    await until(lambda: double.volumes["work"].files == {"a": b"1", "b": b"2"})
    (container.start.volumes[MOUNT].parent / "delete").touch()
    await until(lambda: double.volumes["work"].files == {"a": b"1"})


async def test_the_last_files_go_out_with_the_end_of_the_container(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.sync_every = NEVER
    call = await started(double, deployments, "(volume / 'a').write_text('1'); hand_back(0)")
    await call.get.aio(timeout=PATIENCE)
    assert double.volumes["work"].files == {"a": b"1"}


async def test_what_a_killed_container_did_not_commit_is_lost(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.sync_every = NEVER
    script = """
if attempt == 2:
    hand_back(sorted(path.name for path in volume.iterdir()))
    sys.exit()
(volume / "kept").touch()
knock("commit")
(volume / "lost").touch()
wait_for_ever()
"""
    call = await started(double, deployments, script)
    container = await double.running(call.object_id)
    await until(lambda: "waiting" in container.log)
    await double.trouble.crash(call.object_id)
    assert await call.get.aio(timeout=PATIENCE) == ["kept"]


async def test_files_from_outside_are_seen_inside_after_a_reload(
    double: ModalDouble, deployments: Deployments
) -> None:
    await put(await deployments.volume(), early="1")
    script = """
seen = [(volume / "early").read_text(), (volume / "late").exists()]
print("waiting", flush=True)
wait_for(volume.parent / "reload")
seen.append((volume / "late").exists())
knock("reload")
hand_back(seen + [(volume / "late").read_text()])
"""
    call = await started(double, deployments, script)
    container = await double.running(call.object_id)
    await until(lambda: "waiting" in container.log)
    await put(await deployments.volume(), late="2")
    (container.start.volumes[MOUNT].parent / "reload").touch()
    assert await call.get.aio(timeout=PATIENCE) == ["1", False, False, "2"]


async def test_the_real_client_commits_and_reloads_inside(
    double: ModalDouble, deployments: Deployments
) -> None:
    double.sync_every = NEVER
    volume = await deployments.volume()
    function = await deployments.function(sample.commit, volumes={MOUNT: volume})
    call = await function.spawn.aio(MOUNT, "work")
    await until(lambda: double.volumes["work"].files == {"inside": b"from inside"})
    await put(volume, outside="from outside")
    assert await call.get.aio(timeout=PATIENCE) == "from outside"


async def test_only_containers_commit(deployments: Deployments) -> None:
    volume = await deployments.volume()
    with pytest.raises(RuntimeError):
        await volume.commit.aio()


class TestMount:
    """A container's copy and what is committed, without any server."""

    @pytest.fixture
    def volume(self, tmp_path: Path) -> Volume:
        (tmp_path / "root").mkdir()
        return Volume("vo-1", "work", 2, tmp_path / "root")

    def test_what_did_not_change_inside_does_not_undo_what_changed_outside(
        self, volume: Volume, tmp_path: Path
    ) -> None:
        (volume.root / "a").write_text("old")
        (volume.root / "b").write_text("old")
        mount = Mount(volume, tmp_path / "copy")
        (volume.root / "a").write_text("new!")
        (volume.root / "b").unlink()
        mount.commit()
        assert volume.files == {"a": b"new!"}
        mount.reload()
        assert [path.name for path in mount.folder.iterdir()] == ["a"]

    def test_the_last_commit_of_two_containers_wins(self, volume: Volume, tmp_path: Path) -> None:
        first, second = Mount(volume, tmp_path / "first"), Mount(volume, tmp_path / "second")
        (first.folder / "a").write_text("first")
        (second.folder / "a").write_text("second")
        second.commit()
        first.commit()
        assert volume.files == {"a": b"first"}
        second.reload()
        assert (second.folder / "a").read_text() == "first"

    def test_a_volume_that_was_deleted_takes_nothing(self, volume: Volume, tmp_path: Path) -> None:
        mount = Mount(volume, tmp_path / "copy")
        (mount.folder / "a").touch()
        volume.root.rmdir()
        mount.commit()
        assert not volume.root.exists()
