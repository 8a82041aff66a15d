"""`corral up` with the real services: it heals, it ends, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conditions import wait_for
from tests.running_corral import SECONDS, Up, processes_on, running
from tests.tiny_models import tiny_gpt2

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

STEPS = 100_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up")) as up:
        yield up


def test_a_second_up_on_the_folder_is_refused_with_pid_and_address(shared: Up) -> None:
    found = shared.corral("up", "--data", shared.data, "--port", "0")

    assert found.returncode == 4
    assert str(shared.process.pid) in found.stderr
    assert shared.status["server"] in found.stderr


@pytest.mark.parametrize(
    "words",
    [
        "redis.sock",
        "corral.trainer \n",
        "corral.trainer.worker",
        "corral.inference",
        "corral.gateway",
    ],
)
def test_a_killed_child_comes_back(shared: Up, words: str) -> None:
    killed = wait_for(lambda: shared.child(words), SECONDS)

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: shared.child(words) not in (None, killed), SECONDS)
    for command in ("jobs", "models"):
        wait_for(lambda c=command: shared.corral(c, "list").returncode == 0, SECONDS)


def test_ctrl_c_leaves_no_process_and_no_address(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        assert len(processes_on(up.data)) >= 4

        up.process.send_signal(signal.SIGINT)

        assert up.process.wait(SECONDS) == 0
        assert processes_on(up.data) == []
        assert not (up.data / "up.json").exists()


def train_for_long(up: Up, folder: Path) -> str:
    """The id of a job that is in the middle of its run."""
    rows = folder / "rows.jsonl"
    rows.write_text('{"instruction": "Say a", "output": "a"}\n' * 8)
    model = tiny_gpt2(folder / "tiny")
    flags = ("--max-steps", str(STEPS), "--epochs", str(STEPS), "--checkpoint-every", "5")
    batch = ("--batch-size", "1", "--gradient-accumulation-steps", "1", "--max-length", "128")
    created = up.corral("train", rows, "--model", model, *flags, *batch)
    assert created.returncode == 0, created.stderr
    job = created.stdout.strip()
    wait_for(lambda: json.loads(up.corral("jobs", "show", job, "--json").stdout)["checkpoints"])
    return job


def no_process(data: Path) -> Callable[[], bool]:
    return lambda: not processes_on(data)


def test_two_ctrl_cs_in_the_middle_of_a_run_leave_no_process(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        train_for_long(up, tmp_path)

        up.process.send_signal(signal.SIGINT)
        wait_for(lambda: "Stopping" in up.said.read_text(), SECONDS)
        up.process.send_signal(signal.SIGINT)

        assert up.process.wait(SECONDS) == 0
        assert processes_on(up.data) == []


def test_a_killed_up_leaves_no_process_and_the_next_goes_on_with_its_job(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        job = train_for_long(up, tmp_path)

        up.process.kill()
        up.process.wait()
        wait_for(no_process(up.data), SECONDS)

    (tmp_path / "data" / "up.json").unlink()
    with running(tmp_path) as up:
        wait_for(lambda: json.loads(up.corral("jobs", "show", job, "--json").stdout)["attempt"] > 1)
        assert up.corral("jobs", "cancel", job).returncode == 0
        assert up.corral("jobs", "watch", job).returncode == 4
