"""The commands that docs/models.md shows, as a reader would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]
pytest.importorskip("torch")

from tests.conditions import wait_for
from tests.running_corral import CORRAL, SECONDS, Up, running
from tests.runs import ROWS
from tests.tiny_models import tiny_llama

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
FLAGS = (
    *(
        "--epochs=4",
        "--max-steps=4",
        "--checkpoint-every=2",
        "--keep-checkpoints=4",
        "--batch-size=2",
    ),
    *("--max-length=128", "--precision=fp32", "--processes=1", "--eval-prompts=0"),
)


def blocks() -> list[str]:
    """The page's blocks of commands, in their order."""
    return re.findall(
        r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def train(up: Up, folder: Path) -> str:
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in ROWS))
    created = up.corral("train", rows, "--model", folder / "my-model", *FLAGS, "--no-watch")
    assert created.returncode == 0, created.stderr
    job = created.stdout.strip()
    wait_for(lambda: up.job(job)["state"] in ("SUCCEEDED", "FAILED"), SECONDS)
    assert up.job(job)["state"] == "SUCCEEDED", up.job(job)
    return job


def write_files(folder: Path) -> None:
    """What the page supposes: a model's folder, a GGUF file, and the two programs that it calls."""
    from corral.exporting.gguf_file import write_gguf

    model = tiny_llama(folder / "my-model")
    write_gguf(model, folder / "tiny.gguf", name="tiny", chat_template="{{ x }}", file_type="q8_0")
    programs = folder / "programs"
    programs.mkdir()
    for name, words in (("corral", CORRAL), ("python", CORRAL[:1])):
        quoted = " ".join(f"'{word}'" for word in words)
        (programs / name).write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        (programs / name).chmod(0o755)


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    write_files(tmp_path)
    with running(tmp_path) as up:
        environment = {
            **os.environ,
            "JOB": train(up, tmp_path),
            "CORRAL_SERVER": up.status["server"],
            "PATH": f"{tmp_path / 'programs'}:{os.environ['PATH']}",
        }
        outputs = []
        for block in blocks():
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 0, f"{block}\n{done.stderr}"
            outputs.append(done.stdout)
    imported, _, side_by_side, _, exported = outputs
    assert imported.startswith("mine\n")
    assert side_by_side.count("== ft:") == 2
    assert "Modelfile" in exported
