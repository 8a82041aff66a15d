"""Real torchrun, real FSDP on gloo, tiny models: what a run promises whatever its world size."""

import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from tests.conditions import wait_for
from tests.runs import losses, read_events, start_training, train, write_run
from tests.tiny_models import tiny_gpt2, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from corral.checkpoints.folders import checkpoint_name, complete_checkpoints
from corral.checkpoints.manifest import read_manifest, verify
from corral.run import CheckpointWritten, Ended, Started, StepDone
from corral.volume import Volume

BUILDERS = {"gpt2": tiny_gpt2, "llama": tiny_llama}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    return tiny_gpt2(tmp_path / "gpt2")


def final_weights(volume: Volume, job_id: str):
    return load_file(complete_checkpoints(volume.checkpoints(job_id))[-1] / "model.safetensors")


def assert_weights_close(first, second) -> None:
    assert first.keys() == second.keys()
    for name in first:
        pair = first[name], second[name]
        if name.endswith("attn.c_attn.bias"):
            # Softmax does not change with a bias of the keys: its gradient is rounding noise, which
            # Adam scales up to the size of any other.
            pair = tuple(bias.view(3, -1)[[0, 2]] for bias in pair)
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", BUILDERS)
def test_one_and_two_ranks_give_the_same_losses_and_weights(
    volume: Volume, tmp_path: Path, family: str
) -> None:
    model = BUILDERS[family](tmp_path / family)
    one = train(write_run(volume, model, job_id="one", gradient_accumulation_steps=2))
    two = train(
        write_run(volume, model, job_id="two", gradient_accumulation_steps=1, processes=2), 2
    )
    assert [e.world_size for e in (*one, *two) if isinstance(e, Started)] == [1, 2]
    assert losses(one) == pytest.approx(losses(two), rel=1e-4)
    assert len(losses(one)) == 6
    assert_weights_close(final_weights(volume, "one"), final_weights(volume, "two"))


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


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 2), (2, 4)])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    volume: Volume, gpt2: Path, before: int, after: int
) -> None:
    def spec(processes: int) -> dict[str, int]:
        accumulated = 4 // processes
        return {
            "batch_size": 1,
            "gradient_accumulation_steps": accumulated,
            "processes": processes,
        }

    whole = train(
        write_run(volume, gpt2, job_id="whole", checkpoint_every=3, **spec(before)), before
    )
    resumed = train(
        write_run(
            volume,
            gpt2,
            job_id="whole",
            attempt=2,
            resume_from=checkpoint_name(3, 1),
            checkpoint_every=3,
            **spec(after),
        ),
        after,
    )
    expected, got = losses(whole)[3:], losses(resumed)
    same_world = before == after
    assert got == (expected if same_world else pytest.approx(expected, rel=1e-4))
    folders = complete_checkpoints(volume.checkpoints("whole"))
    assert [folder.name for folder in folders[-2:]] == [
        checkpoint_name(6, 1),
        checkpoint_name(6, 2),
    ]
    first, second = (load_file(folder / "model.safetensors") for folder in folders[-2:])
    if same_world:
        assert all(torch.equal(first[name], second[name]) for name in first)
    else:
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
