"""From a file of instructions to a chat with what it taught, with things dying on the way.

Everything is real: `corral up` with Redis, trainer, worker and inference; torchrun with two FSDP
processes; the `corral` command as client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from tests.conditions import wait_for
from tests.running_corral import CORRAL, SECONDS, Up, running
from tests.runs import ROWS, losses, read_events, train, write_run
from tests.tiny_models import tiny_gpt2, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from corral.checkpoints.folders import complete_checkpoints
from corral.checkpoints.manifest import read_manifest, verify
from corral.data.conversation import Conversation, Message
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.launchers import processes
from corral.run import Started
from corral.volume import Volume

# Enough steps that there is time to kill something after the first checkpoints.
STEPS = 100
FLAGS = {
    "epochs": STEPS,
    "max_steps": STEPS,
    "batch_size": 2,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-3,
    "max_length": 128,
    "precision": "fp32",
    "processes": 2,
    "checkpoint_every": 10,
    "keep_checkpoints": 100,
}
QUESTION = "Say the word number 3."


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("story")) as up:
        yield up


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, gpt2: Path) -> dict[str, torch.Tensor]:
    """The weights that the same spec and rows give when nothing dies."""
    volume = Volume(tmp_path_factory.mktemp("uninterrupted"))
    train(write_run(volume, gpt2, **FLAGS), processes=2)
    (*_, final) = complete_checkpoints(volume.checkpoints("job-1"))
    return load_file(final / "model.safetensors")


def start_job(up: Up, rows: Path, model: Path) -> str:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in FLAGS.items()]
    created = up.corral("train", rows, "--model", model, *flags, "--no-watch")
    assert created.returncode == 0, created.stderr
    return created.stdout.strip()


def pids_of_run(up: Up, job: str, attempt: int) -> dict[str, list[int]]:
    """Pids of the running attempt: its supervisor, torchrun, and ranks."""
    handle = json.loads((Volume(up.data).run(job, attempt).path / "handle.json").read_text())
    torchrun, ranks = [], []
    for pid in processes.of_run(handle["mark"], handle["pid"]) - {handle["pid"]}:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"torch.distributed.run" in command:
            torchrun.append(pid)
        elif b"corral.training" in command:
            ranks.append(pid)
    return {"supervisor": [handle["pid"]], "torchrun": torchrun, "rank": sorted(ranks)}


def wait_for_end(up: Up, job: str) -> dict[str, object]:
    ends = ("SUCCEEDED", "FAILED", "CANCELLED")
    wait_for(lambda: up.job(job)["state"] in ends, SECONDS)
    return up.job(job)


Victim = Callable[[Up, str], int]
VICTIMS: dict[str, Victim] = {
    "rank": lambda up, job: pids_of_run(up, job, 1)["rank"][-1],
    "torchrun": lambda up, job: pids_of_run(up, job, 1)["torchrun"][0],
    "supervisor": lambda up, job: pids_of_run(up, job, 1)["supervisor"][0],
    "worker": lambda up, job: wait_for(lambda: up.child("corral.trainer.worker"), SECONDS),
    "redis": lambda up, job: wait_for(lambda: up.child("redis.sock"), SECONDS),
    "trainer": lambda up, job: wait_for(lambda: up.child("corral.trainer \n"), SECONDS),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_job_ends_with_the_same_weights_whatever_is_killed_in_the_middle(
    up: Up, rows: Path, gpt2: Path, uninterrupted: dict[str, torch.Tensor], victim: str
) -> None:
    job = start_job(up, rows, gpt2)
    wait_for(lambda: up.job(job)["checkpoints"], SECONDS)

    os.kill(VICTIMS[victim](up, job), signal.SIGKILL)

    ended = wait_for_end(up, job)
    assert ended["state"] == "SUCCEEDED", ended
    volume = Volume(up.data)
    folders = complete_checkpoints(volume.checkpoints(job))
    assert all(verify(folder) for folder in folders)
    weights = load_file(folders[-1] / "model.safetensors")
    assert read_manifest(folders[-1]).is_final
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in uninterrupted)
    if victim in ("rank", "torchrun", "supervisor", "worker"):
        events = read_events(volume.run(job, int(str(ended["attempt"]))).run_file)
        started = [event for event in events if isinstance(event, Started)]
        # The run of a killed worker may have come to its end before the worker was back.
        assert started or victim == "worker"
        for one in started:
            assert one.resumed_step >= 10
            assert len(losses(events)) == STEPS - one.resumed_step


def test_a_killed_worker_goes_on_with_its_job_before_it_takes_another(
    up: Up, rows: Path, gpt2: Path
) -> None:
    first, second = start_job(up, rows, gpt2), start_job(up, rows, gpt2)
    wait_for(lambda: up.job(first)["checkpoints"], SECONDS)

    os.kill(VICTIMS["worker"](up, first), signal.SIGKILL)

    wait_for(lambda: up.job(second)["attempt"], SECONDS)
    ended = up.job(first)
    assert (ended["state"], ended["attempt"]) == ("SUCCEEDED", 2)
    assert up.corral("jobs", "cancel", second).returncode == 0
    assert wait_for_end(up, second)["state"] == "CANCELLED"


@pytest.mark.parametrize("build", [tiny_gpt2, tiny_llama])
def test_chat_answers_as_transformers_generates_from_the_same_checkpoint(
    up: Up, rows: Path, tmp_path: Path, build: Callable[[Path], Path]
) -> None:
    job = start_job(up, rows, build(tmp_path / "base"))
    ended = wait_for_end(up, job)
    assert ended["state"] == "SUCCEEDED", ended

    answer = subprocess.run(
        [*CORRAL, "chat", str(ended["fine_tuned_model"]), "--temperature=0", "--max-tokens=30"],
        env={**os.environ, "CORRAL_SERVER": up.status["server"]},
        input=QUESTION,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout

    folder = complete_checkpoints(Volume(up.data).checkpoints(job))[-1]
    assert answer.rstrip("\n") == answer_of_transformers(folder).rstrip("\n")


def answer_of_transformers(folder: Path) -> str:
    """What transformers' own greedy generate says to the question, behind the trained prompt."""
    from corral.devices import compute_dtype

    template = PromptTemplate.from_manifest(read_manifest(folder).template)
    prompt = template.render_prompt(Conversation((Message("user", QUESTION),)))
    ids = TextTokenizer.from_folder(folder).encode_prompt(prompt)
    dtype = compute_dtype("auto", torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    (generated,) = model.generate(torch.tensor([ids]), max_new_tokens=30, do_sample=False)
    decode = AutoTokenizer.from_pretrained(folder).decode
    return str(decode(generated[len(ids) :], skip_special_tokens=True))


def test_cancelling_ends_a_run_within_a_step_and_keeps_its_checkpoints(
    up: Up, rows: Path, gpt2: Path
) -> None:
    job = start_job(up, rows, gpt2)
    wait_for(lambda: up.job(job)["checkpoints"], SECONDS)

    assert up.corral("jobs", "cancel", job).returncode == 0

    ended = wait_for_end(up, job)
    assert ended["state"] == "CANCELLED"
    assert ended["checkpoints"]
    assert up.corral("jobs", "delete", job, "--yes").returncode == 0
    assert not Volume(up.data).checkpoints(job).exists()
