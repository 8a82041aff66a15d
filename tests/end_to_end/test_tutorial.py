"""The commands of docs/tutorial.md that need no cluster and no account, with a tiny model in place of
the one that takes minutes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]
pytest.importorskip("torch")

from tests.conditions import wait_for
from tests.running_corral import SECONDS, Up, running
from tests.tiny_models import tiny_gpt2

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "tutorial.md"
# What is started before, and what needs a cluster, Docker or an account.
ELSEWHERE = re.compile(r"corral up|make |helm |.*--on modal")


def commands() -> list[str]:
    """The lines of the page's blocks of commands, continued ones joined, without comments."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*", "", one).strip() for one in lines) if line]


def run(up: Up, command: str, folder: Path) -> str:
    """What a command of the page prints; chat is asked something."""
    asked = "Who made you?\n" if command.startswith("corral chat") else None
    places = {"my-model": folder / "my-model", "my-gguf": folder / "my-gguf"}
    words = command.replace("smollm2-135m", "tiny").replace("examples/", f"{PROJECT}/examples/")
    arguments = [places.get(word, word) for word in words.split()[1:]]
    done = up.corral(*arguments, stdin=asked)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def await_success(up: Up, job: str) -> None:
    wait_for(lambda: up.job(job)["state"] in ("SUCCEEDED", "FAILED"), SECONDS)
    assert up.job(job)["state"] == "SUCCEEDED", up.job(job)


def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        tiny_gpt2(up.data / "bases" / "tiny", n_positions=1024)
        job, ran = "", []
        for command in commands():
            if ELSEWHERE.match(command):
                continue
            said = run(up, re.sub(r"\bJOB\b", job, command), tmp_path)
            ran.append(command.split()[1])
            if command.startswith("corral train"):
                job = said.strip()
                await_success(up, job)
    assert ran == ["data", "plan", "train", *["chat"] * 3, "compare-prompts", *["models"] * 2]
    assert (tmp_path / "my-model" / "model.safetensors").is_file()
    assert (tmp_path / "my-gguf" / "Modelfile").is_file()


def test_what_the_tutorial_names_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"(?:examples|charts)/[\w./-]+", text):
        assert (PROJECT / name).exists(), name
    for page in re.findall(r"\]\((\w+\.md)\)", text):
        assert (PAGE.parent / page).is_file(), page
    targets = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in targets, target
