"""Real runs that are killed while they save, and runs that train adapters alone."""

import os
import signal
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from tests.conditions import wait_for
from tests.runs import losses, read_events, start_training, train, write_run
from tests.tiny_models import tiny_gpt2, tiny_llama

from corral.checkpoints.folders import checkpoint_name, complete_checkpoints, remove_leftovers
from corral.checkpoints.manifest import read_manifest, verify
from corral.launchers.processes import children, is_alive, start_time
from corral.run import CheckpointWritten, Ended
from corral.volume import Volume

# Once its ranks are killed, torchrun takes a moment to see it.
SECONDS = 60


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


def final(volume: Volume, job_id: str) -> Path:
    return complete_checkpoints(volume.checkpoints(job_id))[-1]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_killed_while_it_saves_goes_on_from_the_last_whole_checkpoint(
    volume: Volume, tmp_path: Path
) -> None:
    model = tiny_gpt2(tmp_path / "gpt2")
    spec = {"epochs": 20, "max_steps": 20, "checkpoint_every": 2, "eval_prompts": 0}
    train(write_run(volume, model, job_id="whole", **spec))

    killed = write_run(volume, model, job_id="killed", **spec)
    folder = volume.checkpoints("killed")
    process = start_training(killed, 1)
    try:
        wait_for(lambda: len(complete_checkpoints(folder)) >= 1, SECONDS)
        wait_for(lambda: list(folder.glob(".writing-*")), SECONDS)
    finally:
        process.kill()
        process.wait(timeout=SECONDS)
    assert not isinstance(read_events(killed)[-1], Ended)
    found = complete_checkpoints(folder)
    assert all(verify(path) for path in found)
    remove_leftovers(folder)

    step = read_manifest(found[-1]).step
    resumed = write_run(
        volume, model, job_id="killed", attempt=2, resume_from=checkpoint_name(step, 1), **spec
    )
    assert len(losses(train(resumed))) == 20 - step
    whole, got = weights_of(final(volume, "whole")), weights_of(final(volume, "killed"))
    assert all(torch.equal(whole[name], got[name]) for name in whole)


def test_one_and_two_ranks_train_the_same_adapters_and_go_on_from_each_other(
    volume: Volume, tmp_path: Path
) -> None:
    model = tiny_llama(tmp_path / "llama")
    spec = {"tuning": "lora", "lora_dropout": 0.1, "checkpoint_every": 3, "eval_prompts": 0}
    two_ranks = spec | {"processes": 2, "gradient_accumulation_steps": 1}
    one = train(write_run(volume, model, job_id="one", **spec))
    two = train(write_run(volume, model, job_id="two", **two_ranks), 2)
    assert losses(one) == pytest.approx(losses(two), rel=1e-4)
    resumed = train(
        write_run(
            volume,
            model,
            job_id="one",
            attempt=2,
            resume_from=checkpoint_name(3, 1),
            **two_ranks,
        ),
        2,
    )
    assert losses(resumed) == pytest.approx(losses(one)[3:], rel=1e-4)

    first, *others = (final(volume, "two"), *complete_checkpoints(volume.checkpoints("one"))[-2:])
    for other in others:
        assert read_manifest(other).adapter == read_manifest(first).adapter
        for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
            expected, got = load_file(first / file), load_file(other / file)
            assert expected.keys() == got.keys()
            for name in expected:
                torch.testing.assert_close(got[name], expected[name], rtol=1e-3, atol=1e-5)
    written = [event for event in one if isinstance(event, CheckpointWritten)]
    state = volume.checkpoints("one") / written[0].folder / "state" / "rank-0-of-1.safetensors"
    assert all(".lora_" in name for name in load_file(state))


def test_a_rank_that_dies_ends_the_whole_group(volume: Volume, tmp_path: Path) -> None:
    run_file = write_run(volume, tiny_gpt2(tmp_path / "gpt2"), epochs=5000, processes=2)
    process = start_training(run_file, 2)
    try:
        wait_for(lambda: len(losses(read_events(run_file))) >= 2, SECONDS)
        ranks = {pid: start_time(pid) or "" for pid in children(process.pid)}
        os.kill(max(ranks), signal.SIGKILL)
        assert process.wait(timeout=SECONDS) != 0
    finally:
        process.kill()
    assert not any(is_alive(pid, began) for pid, began in ranks.items())
