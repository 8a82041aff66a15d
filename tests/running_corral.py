"""A real `corral up` on a folder of the test's own, and commands against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.conditions import wait_for

CORRAL = (sys.executable, "-c", "from corral.cli.main import main; main()")
SECONDS = 120


class Up:
    """A running `corral up` on a folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.said = data.parent / "said"
        environment = {k: v for k, v in os.environ.items() if "REDIS_URL" not in k}
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [*CORRAL, "up", "--data", str(data), "--port", "0"],
                stderr=said,
                env={**environment, "CORRAL_LEASE_SECONDS": "3"},
            )
        self.status: dict[str, Any] = wait_for(self._ready, SECONDS)

    def corral(
        self, *arguments: str | Path, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CORRAL, *map(str, arguments)],
            input=stdin,
            env={
                **os.environ,
                "CORRAL_SERVER": self.status["server"],
                "CORRAL_DATA": str(self.data),
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as `corral jobs show --json` prints it, once a server answers: a test may just
        have killed it.
        """
        command = ("jobs", "show", job_id, "--json")
        shown = wait_for(lambda: (done := self.corral(*command)).returncode == 0 and done, SECONDS)
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def child(self, words: str) -> int | None:
        """The pid of a child by the end of its command line."""
        for pid in processes_on(self.data):
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                is_wrapper = "die_with_parent" in command
                if int(stat[1]) == self.process.pid and words in f"{command}\n" and not is_wrapper:
                    return pid
        return None

    def _ready(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.said.read_text()
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
            return found
        return None


def processes_on(data: Path) -> list[int]:
    """Pids of the living processes that work on a data folder.

    All inherit the variable, runs too; Redis writes its title, with its socket's path, over it.
    """
    variable = f"CORRAL_DATA={data}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and (
                variable in (folder / "environ").read_bytes().split(b"\0")
                or os.fsencode(data) in (folder / "cmdline").read_bytes()
            ):
                found.append(int(folder.name))
    return found


@contextmanager
def running(folder: Path) -> Iterator[Up]:
    up = Up(folder / "data")
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
            up.process.send_signal(signal.SIGINT)
        up.process.wait(SECONDS)
