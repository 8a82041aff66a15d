"""Real processes, real FSDP on gloo, tiny models: what a run promises whatever its world size."""

import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from tests.conditions import wait_for
from tests.forked_training import train_all
from tests.runs import losses, read_events, start_training, train, write_run
from tests.tiny_models import tiny_gpt2
from transformers import AutoModelForCausalLM, AutoTokenizer

from corral.checkpoints.folders import checkpoint_name, complete_checkpoints
from corral.checkpoints.manifest import read_manifest, verify
from corral.run import CheckpointWritten, Ended, StepDone
from corral.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    return tiny_gpt2(tmp_path / "gpt2")


def assert_weights_close(first, second) -> None:
    assert first.keys() == second.keys()
    for name in first:
        pair = first[name], second[name]
        if name.endswith("attn.c_attn.bias"):
            # Softmax does not change with a bias of the keys: its gradient is rounding noise, which
            # Adam scales up to the size of any other.
            pair = tuple(bias.view(3, -1)[[0, 2]] for bias in pair)
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-5)


def test_a_checkpoint_is_a_plain_hugging_face_folder_with_its_template(
    volume: Volume, gpt2: Path
) -> None:
    events = train(write_run(volume, gpt2, checkpoint_every=4))
    written = [event for event in events if isinstance(event, CheckpointWritten)]
    assert [event.step for event in written] == [4, 6]
    folder = volume.checkpoints("job-1") / written[-1].folder
    manifest = verify(folder)
    assert (manifest.step, manifest.total_steps, manifest.is_final) == (6, 6, True)
    assert manifest.template["name"] == "alpaca"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.get_input_embeddings().weight.shape[0] >= len(tokenizer)
    assert read_manifest(volume.checkpoints("job-1") / written[0].folder).is_final is False


def test_training_lowers_the_loss_and_says_how_long_it_takes(volume: Volume, gpt2: Path) -> None:
    events = train(write_run(volume, gpt2, epochs=6, eval_split=0.2))
    steps = [event for event in events if isinstance(event, StepDone)]
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].time_left == 0 < steps[0].time_left
    assert steps[-1].epoch == 6
    assert steps[-1].eval_loss is not None
    assert isinstance(events[-1], Ended)
    assert events[-1].outcome == "done"


# Ranks before and after a run is resumed.
WORLDS = [(1, 1), (2, 2), (2, 1), (1, 2), (2, 4)]


class Resumed:
    """Uninterrupted runs, and from the middle of each one run for every pair of WORLDS."""

    def __init__(self, folder: Path) -> None:
        self.volume = Volume(folder / "data")
        model = tiny_gpt2(folder / "gpt2")
        files = [(self._write(model, ranks, ranks, 1), ranks) for ranks in (1, 2)]
        files += [
            (self._write(model, before, after, attempt), after)
            for attempt, (before, after) in enumerate(WORLDS, start=2)
        ]
        whole_by_one, whole_by_two, *resumed = train_all(files)
        self.whole = {1: whole_by_one, 2: whole_by_two}
        self.resumed = dict(zip(WORLDS, resumed, strict=True))

    def _write(self, model: Path, before: int, after: int, attempt: int) -> Path:
        return write_run(
            self.volume,
            model,
            job_id=f"begun-by-{before}",
            attempt=attempt,
            resume_from=checkpoint_name(3, 1) if attempt > 1 else None,
            checkpoint_every=3,
            batch_size=1,
            gradient_accumulation_steps=4 // after,
            processes=after,
        )

    def weights(self, before: int, attempt: int):
        folder = self.volume.checkpoints(f"begun-by-{before}") / checkpoint_name(6, attempt)
        return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    return Resumed(tmp_path_factory.mktemp("resumed"))


@pytest.mark.parametrize(("before", "after"), WORLDS)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    resumed: Resumed, before: int, after: int
) -> None:
    expected, got = losses(resumed.whole[before])[3:], losses(resumed.resumed[before, after])
    first = resumed.weights(before, 1)
    second = resumed.weights(before, 2 + WORLDS.index((before, after)))
    assert len(got) == 3
    if before == after:
        assert got == expected
        assert all(torch.equal(first[name], second[name]) for name in first)
    else:
        assert got == pytest.approx(expected, rel=1e-4)
        assert_weights_close(first, second)


@pytest.mark.parametrize("precision", ["bf16", "bf16-pure"])
def test_a_resumed_run_in_bf16_ends_with_the_same_bytes(
    volume: Volume, gpt2: Path, precision: str
) -> None:
    fields = {"precision": precision, "checkpoint_every": 3, "eval_prompts": 0}
    whole = train(write_run(volume, gpt2, **fields))
    resumed = train(write_run(volume, gpt2, attempt=2, resume_from=checkpoint_name(3, 1), **fields))
    assert losses(resumed) == losses(whole)[3:]
    first, second = (
        load_file(folder / "model.safetensors")
        for folder in complete_checkpoints(volume.checkpoints("job-1"))[-2:]
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_sigterm_ends_the_run_at_the_next_step_with_a_checkpoint(
    volume: Volume, gpt2: Path
) -> None:
    run_file = write_run(volume, gpt2, epochs=5000, processes=2)
    process = start_training(run_file, 2)
    try:
        wait_for(lambda: len(losses(read_events(run_file))) >= 2)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        process.kill()
    events = read_events(run_file)
    assert isinstance(events[-1], Ended)
    assert events[-1].outcome == "stopped"
    last_step = [event for event in events if isinstance(event, StepDone)][-1].step
    (folder,) = complete_checkpoints(volume.checkpoints("job-1"))
    assert verify(folder).step == last_step
    assert not read_manifest(folder).is_final


def test_what_the_user_can_mend_ends_the_run_with_a_code_and_a_sentence(
    volume: Volume, gpt2: Path
) -> None:
    events = train(write_run(volume, gpt2, max_length=4096))
    assert isinstance(events[-1], Ended)
    assert (events[-1].outcome, events[-1].code) == ("failed", "SPEC_INVALID")
    assert "4096" in events[-1].message
    assert "128" in events[-1].message


def test_a_run_whose_loss_is_not_finite_stops_before_it_spoils_the_weights(
    volume: Volume, gpt2: Path
) -> None:
    weights = load_file(gpt2 / "model.safetensors")
    weights["transformer.ln_f.bias"][0] = float("inf")
    save_file(weights, gpt2 / "model.safetensors", metadata={"format": "pt"})
    events = train(write_run(volume, gpt2))
    assert isinstance(events[-1], Ended)
    assert (events[-1].outcome, events[-1].code) == ("failed", "TRAINING_DIVERGED")
    assert "step 1" in events[-1].message
    assert "line " in events[-1].message
    assert complete_checkpoints(volume.checkpoints("job-1")) == []
