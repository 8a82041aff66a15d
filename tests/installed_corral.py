"""A Corral that helm installed into a namespace of a test's own, on whatever cluster KUBECONFIG names.

Nothing here is particular to a kind of cluster: kubectl, helm, and the `corral` command through a
port-forward. Prints what it does, so that a run elsewhere can be read afterwards.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conditions import wait_for
from tests.rendered_chart import CHART
from tests.running_corral import CORRAL

RELEASE = "corral"
# The tiny base model that the tests train, on the volume.
BASE = "tiny-gpt2"
# A pod may wait for its image or its volume.
MINUTES = 10
SECONDS = 60 * MINUTES
TRAINING = "app.kubernetes.io/component=training"

_UNPACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/data/bases', filter='data')"


def say(text: str) -> None:
    sys.stdout.write(f"    {text}\n")
    sys.stdout.flush()


def run(*command: str, stdin: bytes | None = None, check: bool = True, quiet: bool = False) -> str:
    """Standard output of a command, which is shown. Fails with what it wrote, unless not to check."""
    if not quiet:
        say("$ " + " ".join(command))
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS, check=False)
    out, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert not check or done.returncode == 0, f"{command} failed:\n{out}\n{errors}"
    return out


@dataclass(frozen=True)
class Installation:
    """A release in a namespace, and where the test reaches it."""

    namespace: str
    values: Path
    trainer_port: int

    # ------------------------------------------------------------ the cluster

    def kubectl(self, *arguments: str, stdin: bytes | None = None, check: bool = True) -> str:
        return run("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin, check=check)

    def helm(self, *arguments: str) -> str:
        return run("helm", "--namespace", self.namespace, *arguments)

    def install(self, *settings: str) -> None:
        """Install or upgrade, and wait until everything is ready."""
        chart = ("upgrade", "--install", RELEASE, str(CHART), "--values", str(self.values))
        changes = [flag for setting in settings for flag in ("--set", setting)]
        self.helm(*chart, *changes, "--wait", "--timeout", f"{MINUTES}m")

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        flags = ("--selector", selector) if selector else ()
        command = ("kubectl", "--namespace", self.namespace, "get", kind, *flags)
        # Asked again and again while a test waits: not shown.
        found = json.loads(run(*command, "--output", "json", quiet=True))
        items: list[dict[str, Any]] = found["items"]
        return items

    def training_pods(self, job: str) -> list[dict[str, Any]]:
        """Those that are not on their way out."""
        pods = self.objects("pods", f"{TRAINING},corral.dev/job={job}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def running_pod(self, job: str) -> dict[str, Any]:
        """The training pod of a run, once it runs."""

        def running() -> list[dict[str, Any]]:
            return [p for p in self.training_pods(job) if p["status"]["phase"] == "Running"]

        pod: dict[str, Any] = wait_for(running, SECONDS)[0]
        say(f"{pod['metadata']['name']} runs on {pod['spec']['nodeName']}")
        return pod

    def copy_base(self, folder: Path) -> None:
        """Put a base model onto the volume, as bases/<name of the folder>."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(folder, arcname=folder.name)
        command = ("exec", "--stdin", f"deployment/{RELEASE}-trainer", "--", "python", "-c")
        self.kubectl(*command, _UNPACK, stdin=archive.getvalue())

    def run_file(self, job: str, attempt: int) -> dict[str, Any]:
        """What an attempt was told, from the volume."""
        path = f"/data/runs/{job}/a{attempt}/run.json"
        read = self.kubectl("exec", f"deployment/{RELEASE}-trainer", "--", "cat", path)
        found: dict[str, Any] = json.loads(read)
        return found

    def show(self) -> None:
        """What a person would look at first when something failed."""
        for command in (
            ("get", "pods,jobs,pvc", "--output", "wide"),
            ("get", "events", "--sort-by", ".lastTimestamp"),
            ("logs", f"deployment/{RELEASE}-worker", "--tail", "50"),
        ):
            say(self.kubectl(*command, check=False))

    # ------------------------------------------------------------ corral

    def corral(
        self, *arguments: str, stdin: str = "", quiet: bool = False
    ) -> subprocess.CompletedProcess[str]:
        if not quiet:
            say("$ corral " + " ".join(arguments))
        return subprocess.run(
            [*CORRAL, *arguments],
            env={**os.environ, "CORRAL_SERVER": f"127.0.0.1:{self.trainer_port}"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def train(self, rows: Path, model: str, flags: Mapping[str, object]) -> str:
        """Queue a job; its id."""
        given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        created = self.corral("train", str(rows), "--model", model, *given, "--no-watch")
        assert created.returncode == 0, created.stderr
        return created.stdout.strip()

    def job(self, job: str) -> dict[str, Any]:
        """The job as `corral jobs show --json` prints it, once a server answers."""
        command = ("jobs", "show", job, "--json")
        shown = wait_for(
            lambda: (done := self.corral(*command, quiet=True)).returncode == 0 and done, SECONDS
        )
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def first_checkpoint(self, job: str) -> dict[str, Any]:
        """Of a job that has not ended."""
        found: dict[str, Any] = wait_for(lambda: self._with_checkpoints(job), SECONDS)
        return found

    def end(self, job: str) -> dict[str, Any]:
        """The job when it has ended."""
        found: dict[str, Any] = wait_for(lambda: self._ended(job), SECONDS)
        say(f"{job}: {found['state']} after {found['attempt']} attempt(s)")
        return found

    def chat(self, model: str) -> str:
        """What a model answers, without randomness."""
        flags = ("--temperature=0", "--max-tokens=16")
        answer = self.corral("chat", model, *flags, stdin="Say the word number 3.")
        assert answer.returncode == 0, answer.stderr
        say(f"it answers {answer.stdout!r}")
        return answer.stdout

    def _with_checkpoints(self, job: str) -> dict[str, Any] | None:
        found = self.job(job)
        assert found["state"] not in ("FAILED", "SUCCEEDED"), found
        return found if found.get("checkpoints") else None

    def _ended(self, job: str) -> dict[str, Any] | None:
        found = self.job(job)
        return found if found["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None


@contextmanager
def forwarded(namespace: str, service: str, local: int, remote: int) -> Iterator[None]:
    """A port-forward for as long as this lasts: kubectl's own ends with the pod that it found."""
    command = f"kubectl --namespace {namespace} port-forward service/{service} {local}:{remote}"
    process = subprocess.Popen(
        ["bash", "-c", f"while true; do {command}; sleep 0.5; done"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
