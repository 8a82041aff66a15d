"""A real `docker compose up` of this repository under a name and on ports of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.running_corral import CORRAL

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120


class Deployment:
    """Each method runs a command, and fails with what it said unless it exits with 0."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        project = f"corral-test-{secrets.token_hex(4)}"
        # Not the developer's own .env: its secrets, ports and profiles are not the test's.
        self._compose = ("compose", "--project-name", project, "--env-file", ".env.example")
        trainer, inference = _free_ports()
        self._environment = os.environ | {
            "COMPOSE_PROFILES": "",
            "REDIS_PASSWORD": secrets.token_hex(16),
            "CORRAL_TAG": "compose-test",
            "CORRAL_TRAINER_PORT": trainer,
            "CORRAL_INFERENCE_PORT": inference,
            "CORRAL_SERVER": f"127.0.0.1:{trainer}",
        }

    def docker(self, *arguments: str) -> str:
        """`docker …`; returns what it printed."""
        return _checked(self.try_docker(*arguments))

    def try_docker(
        self, *arguments: str, seconds: float = SECONDS, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """`docker …`, whatever it exits with."""
        return self._run(["docker", *arguments], seconds, stdin)

    def compose(self, *arguments: str, seconds: float = SECONDS, stdin: bytes = b"") -> str:
        """`docker compose …`; returns what it printed."""
        return _checked(self.try_docker(*self._compose, *arguments, seconds=seconds, stdin=stdin))

    def python(self, service: str, code: str, stdin: bytes = b"") -> str:
        """Python in a service's container, as the user that the service runs as."""
        return self.compose("exec", "--no-TTY", service, "python", "-c", code, stdin=stdin)

    def container(self, service: str) -> dict[str, Any]:
        """What Docker knows about a service's only container."""
        identity = self.compose("ps", "--all", "--quiet", service).strip()
        (found,) = json.loads(self.docker("inspect", identity))
        return dict(found)

    def corral(self, *arguments: str, question: str = "") -> str:
        """A `corral` command against the published port; returns its standard output."""
        return _checked(self._run([*CORRAL, *arguments], SECONDS, question.encode()))

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as `corral jobs show --json` prints it."""
        return dict(json.loads(self.corral("jobs", "show", job_id, "--json")))

    def tell(self, what: str) -> None:
        """A line for who runs `make compose-test`, with the seconds since the beginning."""
        sys.stderr.write(f"compose-test: {time.monotonic() - self._began:4.0f} s  {what}\n")

    def _run(
        self, command: list[str], seconds: float, stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )


def missing_docker() -> str:
    """Why the tests can't run here, or an empty string."""
    if shutil.which("docker") is None:
        return "Docker is not installed"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return f"`{' '.join(command)}` fails here"
    return ""


def _checked(done: subprocess.CompletedProcess[bytes]) -> str:
    said = f"{' '.join(done.args)}\n{done.stderr.decode()[-3000:]}"
    assert done.returncode == 0, said
    return done.stdout.decode()


def _free_ports() -> tuple[str, str]:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        return str(first.getsockname()[1]), str(second.getsockname()[1])
