"""From the container's disk to the volume: checkpoints before the events that tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.worker_builders import PlayedRun, write_checkpoint

from corral.checkpoints.folders import complete_checkpoints
from corral.launchers.modal.carrying import Carrier
from corral.run import TrainingRun
from corral.spec import TrainingSpec
from corral.volume import Volume

RUN = TrainingRun(job_id="job-1", attempt=1, dataset_id="d" * 64, spec=TrainingSpec())


@pytest.fixture
def carrier(tmp_path: Path) -> Carrier:
    return Carrier(Volume(tmp_path / "disk"), Volume(tmp_path / "remote"), "job-1", 1)


@pytest.fixture
def training(carrier: Carrier) -> PlayedRun:
    return PlayedRun(RUN, carrier.run, carrier.disk)


def remote_steps(carrier: Carrier) -> list[str]:
    return [path.name for path in complete_checkpoints(carrier.remote.checkpoints("job-1"))]


def test_what_is_new_is_carried_once(carrier: Carrier, training: PlayedRun) -> None:
    training.step(1)
    training.checkpoint(2)
    assert carrier.carry(is_over=False)
    assert not carrier.carry(is_over=False)
    assert remote_steps(carrier) == ["step-00000002-a1"]
    assert carrier.remote_run.events.read_bytes() == carrier.run.events.read_bytes()
    assert carrier.last_step() == 1


def test_the_disk_keeps_only_the_newest_checkpoint(carrier: Carrier, training: PlayedRun) -> None:
    for step in (1, 2, 3):
        training.checkpoint(step)
    carrier.carry(is_over=False)
    assert len(remote_steps(carrier)) == 3
    assert len(complete_checkpoints(carrier.disk.checkpoints("job-1"))) == 1


def test_the_end_is_told_only_when_it_is_the_end(carrier: Carrier, training: PlayedRun) -> None:
    training.step(1)
    training.end("stopped")
    carrier.carry(is_over=False)
    assert b"ended" not in carrier.remote_run.events.read_bytes()
    carrier.carry(is_over=True)
    assert b"ended" in carrier.remote_run.events.read_bytes()


def test_the_next_container_goes_on_where_the_volume_is(
    carrier: Carrier, training: PlayedRun, tmp_path: Path
) -> None:
    training.step(1)
    write_checkpoint(carrier.disk, RUN, 1)
    carrier.carry(is_over=False)
    half = carrier.remote_run.events
    half.write_bytes(half.read_bytes() + b'{"kind":"st')
    rows = carrier.remote.dataset_rows("d" * 64)
    rows.parent.mkdir(parents=True)
    rows.write_text("{}\n")
    (carrier.remote.bases / "mine").mkdir(parents=True)
    following = Carrier(Volume(tmp_path / "next"), carrier.remote, "job-1", 1)
    following.fetch(RUN.model_copy(update={"resume_from": following.newest_checkpoint()}))
    assert following.run.events.read_bytes().endswith(b'{"kind":"st\n')
    assert following.disk.dataset_rows("d" * 64).read_text() == "{}\n"
    assert (following.disk.bases / "mine").is_dir()
    assert len(complete_checkpoints(following.disk.checkpoints("job-1"))) == 1
