"""The real training on Modal's double: torchrun with two FSDP processes, its checkpoints served home."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("modal")

from tests.conditions import until
from tests.modal_double.server import ModalDouble
from tests.modal_launchers import modal_launcher
from tests.runs import losses, read_events, train, write_run
from tests.tiny_models import tiny_gpt2

from corral.checkpoints.folders import complete_checkpoints
from corral.checkpoints.manifest import verify
from corral.run import Ended, Started, TrainingRun
from corral.volume import Volume


async def test_two_fsdp_processes_train_as_one_does_here_and_a_checkpoint_comes_home_meanwhile(
    double: ModalDouble, tmp_path: Path
) -> None:
    model = tiny_gpt2(tmp_path / "gpt2")
    spec = {"batch_size": 1, "gradient_accumulation_steps": 4, "checkpoint_every": 2, "epochs": 2}
    here = write_run(Volume(tmp_path / "here"), model, **spec)
    volume = Volume(tmp_path / "data")
    there = write_run(volume, model, backend="modal", gpu="A10:2", **spec)
    launcher = modal_launcher(double, volume.root, command=None)
    end = there.parent / "exit.json"
    handle = await launcher.start(there, TrainingRun.read(there))
    expected, _ = await asyncio.gather(
        asyncio.to_thread(train, here),
        until(lambda: complete_checkpoints(volume.checkpoints("job-1")) or end.exists(), 80),
    )
    was_running = (await launcher.poll(handle)).is_running
    await until(end.exists, 80)
    status = await launcher.poll(handle)
    await launcher.close()
    events = read_events(there)
    assert status.exit_code == 0, (there.parent / "log.txt").read_text()[-2000:]
    assert was_running, "the first checkpoint came home while it trained"
    [started] = [event for event in events if isinstance(event, Started)]
    assert started.world_size == 2
    assert losses(events) == pytest.approx(losses(expected), abs=1e-4)
    assert isinstance(events[-1], Ended)
    found = complete_checkpoints(volume.checkpoints("job-1"))
    assert [verify(path).step for path in found] == [2, 4, 6]
    assert verify(found[-1]).base_model == str(model)
