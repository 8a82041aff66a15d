"""The real command line against a double of Modal: what docs/modal.md tells people to type, and one
sentence for each thing that can be wrong with an account.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from grpclib import Status

pytest.importorskip("modal")

from tests.conditions import until
from tests.modal_double.server import ModalDouble
from tests.running_corral import SECONDS, Up, running

from corral.checkpoints.folders import complete_checkpoints
from corral.cli.main import run
from corral.errors import BackendRefusedError
from corral.volume import Volume

DEMO = Path(__file__).resolve().parents[3] / "examples" / "modal_demo.py"

Asked = tuple[str | Path, ...]

WHAT_TO_DO = "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Terminal:
    """Runs command lines in this process; the double needs the event loop meanwhile."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def type(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit code and stderr."""
        code = await asyncio.to_thread(run, [str(argument) for argument in arguments])
        return code, self._capsys.readouterr().err

    async def refused(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, the error's sentence, and what to do about it: one line each."""
        code, said = await self.type(*arguments)
        assert code != 0
        message, hint = said.rstrip("\n").split("\n")
        assert message.startswith("error: ")
        return code, message, hint


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


# ---------------------------------------------------------------- one sentence each


@pytest.mark.parametrize("missing", ["MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"])
async def test_without_a_token(
    double: ModalDouble, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    _, message, hint = await terminal.refused("modal", "volumes")
    assert message == f"error: There is no Modal token: {missing} is not set."
    assert WHAT_TO_DO in hint
    assert double.calls == {}


@pytest.mark.parametrize("why", ["bad", "expired"])
async def test_with_a_token_that_is_none(double: ModalDouble, terminal: Terminal, why: str) -> None:
    double.trouble.reject_tokens(why)
    _, message, hint = await terminal.refused("modal", "volumes")
    assert message.startswith("error: Modal does not accept the token (while ")
    assert ("expired" in message) == (why == "expired")
    assert WHAT_TO_DO in hint


async def test_with_a_used_up_quota(double: ModalDouble, terminal: Terminal) -> None:
    double.trouble.fail_rpc("VolumeList", Status.RESOURCE_EXHAUSTED, "over the limit", times=20)
    _, message, hint = await terminal.refused("modal", "volumes")
    assert message == ("error: Modal's quota is used up (while listing volumes): over the limit.")
    assert "modal.com/settings/usage" in hint


async def test_without_the_right_to_do_it(double: ModalDouble, terminal: Terminal) -> None:
    double.trouble.fail_rpc("VolumeList", Status.PERMISSION_DENIED, "not yours", times=20)
    _, message, hint = await terminal.refused("modal", "volumes")
    assert "Modal does not allow this (while listing volumes): not yours." in message
    assert "workspace member" in hint


async def test_without_a_network_or_in_an_outage(double: ModalDouble, terminal: Terminal) -> None:
    await double.go_away()
    _, message, hint = await terminal.refused("modal", "volumes")
    assert "Modal does not answer (while connecting): " in message
    assert "status.modal.com" in hint


async def test_with_a_gpu_that_modal_does_not_have(
    double: ModalDouble, terminal: Terminal, tmp_path: Path
) -> None:
    wishes = ("--on", "modal", "--gpu", "A10,V100")
    code, message, hint = await terminal.refused("train", tmp_path / "rows.jsonl", *wishes)
    assert (code, message) == (2, "error: gpu: Modal has no GPU 'V100'.")
    assert "A100-80GB" in hint
    assert double.calls == {}


async def test_with_nothing_left_there(double: ModalDouble, terminal: Terminal) -> None:
    assert await terminal.type("modal", "volumes") == (0, "Nothing of Corral's is left on Modal.\n")
    assert await terminal.type("modal", "clean") == (0, "There is nothing to delete.\n")


async def test_the_demo_shows_the_price_and_spends_nothing_without_a_yes(
    double: ModalDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = await demo(stdin=b"n\n")
    assert code == 1
    assert "One T4 costs $0.91 an hour" in said
    monkeypatch.delenv("MODAL_TOKEN_ID")
    code, said = await demo(stdin=b"y\n")
    assert code == BackendRefusedError.kind.value.exit_code
    assert "There is no Modal token" in said
    assert double.calls == {}


async def demo(stdin: bytes) -> tuple[int | None, str]:
    """`make modal-demo`: exit code, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(DEMO),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(stdin)
    return process.returncode, said.decode()


# ---------------------------------------------------------------- from a token to a trained model


def model_and_rows(folder: Path) -> tuple[Path, Path]:
    from tests.runs import ROWS
    from tests.tiny_models import tiny_gpt2

    rows = folder / "my.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    return tiny_gpt2(folder / "gpt2"), rows


class Deployment:
    """`corral up` in a process of its own, whose worker talks to the double."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self.volume = Volume(up.data)

    async def corral(self, *arguments: str | Path, stdin: str | None = None) -> tuple[int, str]:
        """Exit code and everything that was said."""
        done = await asyncio.to_thread(self._up.corral, *arguments, stdin=stdin)
        return done.returncode, done.stdout + done.stderr

    async def job(self) -> dict[str, Any]:
        """The newest."""
        done = await asyncio.to_thread(self._up.corral, "jobs", "list", "--json")
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found


@pytest.mark.torch
@pytest.mark.timeout(240)
async def test_what_the_documentation_says_from_the_token_to_the_clean_up(
    double: ModalDouble, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    model, rows = model_and_rows(tmp_path)
    asked = ("train", rows, "--model", model, "--on", "modal")
    entered = running(tmp_path)
    deployment = Deployment(await asyncio.to_thread(entered.__enter__))
    try:
        await _train_show_and_clean(double, deployment, asked)
        await _meet_a_bad_token(double, deployment, asked)
        await _meet_an_outage_and_chat_while_it_trains(double, deployment, asked)
    finally:
        await asyncio.to_thread(entered.__exit__, None, None, None)
    assert _files_with(double.token_secret, tmp_path) == []


async def _train_show_and_clean(double: ModalDouble, deployment: Deployment, asked: Asked) -> None:
    gpus = ("--gpu", "H100,A100-80GB,A10:2")
    code, said = await deployment.corral(
        *asked, *gpus, "--max-cost", "5", "--epochs", "1", "--keep-volume", "--watch"
    )
    assert code == 0, said
    assert "Modal: H100, else A100-80GB, else A10:2: $2.52 to $4.27 an hour" in said
    assert "The whole run: $" in said
    assert "It ends with a checkpoint once it has cost $5.00." in said
    assert "On H100: " in said
    job = await deployment.job()
    assert job["state"] == "SUCCEEDED"
    assert job["cost"] > 0
    _, shown = await deployment.corral("jobs", "show", job["id"])
    assert "ran on           H100, " in shown
    assert " in the queue, " in shown
    [volume] = double.volumes
    code, listed = await deployment.corral("modal", "volumes")
    assert (code, volume in listed, job["id"] in listed) == (0, True, True)
    code, said = await deployment.corral("modal", "clean", "--yes")
    assert (code, "Deleted 1 volume." in said) == (0, True)
    assert double.volumes == {}


async def _meet_a_bad_token(double: ModalDouble, deployment: Deployment, asked: Asked) -> None:
    double.trouble.reject_tokens()
    code, said = await deployment.corral(*asked, "--watch")
    assert code != 0
    assert "failed: Modal does not accept the token" in said
    assert WHAT_TO_DO in said
    assert "Traceback" not in said
    double.trouble.accept_tokens()


async def _meet_an_outage_and_chat_while_it_trains(
    double: ModalDouble, deployment: Deployment, asked: Asked
) -> None:
    await double.go_away()
    # Two FSDP processes, until it is cancelled.
    steps = ("--epochs", "1000", "--max-steps", "1000", "--checkpoint-every", "2")
    code, said = await deployment.corral(*asked, *steps, "--gpu", "A10:2", "--no-watch")
    assert code == 0, said
    job = await deployment.job()
    assert job["state"] in ("QUEUED", "STARTING")
    await double.come_back()
    await until(lambda: len(double.containers) == 2, SECONDS)
    await until(lambda: complete_checkpoints(deployment.volume.checkpoints(job["id"])), SECONDS)
    # Home, and a moment later published.
    while not (job := await deployment.job()).get("checkpoints"):
        assert job["state"] in ("STARTING", "RUNNING"), job
    code, said = await deployment.corral("chat", job["id"], "--max-tokens=4", stdin="Say it.")
    assert code == 0, said
    assert (await deployment.job())["state"] == "RUNNING"
    await deployment.corral("jobs", "cancel", job["id"])
    await until(lambda: double.volumes == {}, SECONDS)
    job = await deployment.job()
    assert job["state"] == "CANCELLED"
    assert job["spending"]["gpu"] == "A10:2"
    assert len(double.function_calls) == 2


def _files_with(secret: str, folder: Path) -> list[str]:
    """Logs, run files, Redis' own file, and everything that went up."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    return [str(path) for path in files if secret.encode() in path.read_bytes()]
