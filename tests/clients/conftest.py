from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conditions import wait_for
from tests.running_corral import SECONDS, Up, running
from tests.tiny_models import tiny_gpt2

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
VENV = Path(os.environ.get("CORRAL_CLIENTS_VENV", ROOT / ".venv-clients"))
PROGRAM_SECONDS = 300

if sys.platform != "linux":
    pytest.skip("tests.running_corral reads /proc", allow_module_level=True)


@dataclass(frozen=True)
class Served:
    """A running Corral with a model that has been trained a step."""

    up: Up
    model: str
    base: str
    rows: Path

    def environment(self) -> dict[str, str]:
        """What each program reads."""
        return {
            **os.environ,
            "CORRAL_GATEWAY": self.up.status["gateway"],
            "CORRAL_SERVER": self.up.status["server"],
            "CORRAL_INFERENCE": self.up.status["inference"],
            "CORRAL_MODEL": self.model,
            "CORRAL_BASE": self.base,
            "CORRAL_ROWS": str(self.rows),
            "CORRAL_PROTOS": str(ROOT / "protos"),
            # Proxies of the environment are for the world outside.
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """What a program prints. Fails where it fails."""
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    base = str(tiny_gpt2(folder / "tiny"))
    rows = folder / "rows.jsonl"
    rows.write_text('{"instruction": "Say a", "output": "a"}\n' * 4)
    with running(folder) as up:
        flags = ("--max-steps", "1", "--max-length", "128", "--eval-prompts", "0")
        created = up.corral("train", rows, "--model", base, *flags)
        assert created.returncode == 0, created.stderr
        job = up.job(created.stdout.strip())
        wait_for(lambda: up.job(job["id"])["checkpoints"], SECONDS)
        wait_for(lambda: up.job(job["id"]).get("finished_at"), SECONDS)
        yield Served(up, f"ft:tiny::{job['id']}", base, rows)


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that has the clients of requirements.txt."""
    path = VENV / "bin" / "python"
    if not path.exists():
        pytest.skip("no clients installed: make test-clients installs them")
    return path


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Node, and a folder into which some packages are installed."""

    def install(*packages: str) -> tuple[Path, Path]:
        found, npm = shutil.which("node"), shutil.which("npm")
        if found is None or npm is None:
            pytest.skip("needs node and npm")
        folder = tmp_path_factory.mktemp("node")
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", *packages],
            cwd=folder,
            check=True,
            timeout=PROGRAM_SECONDS,
        )
        return Path(found), folder

    return install
