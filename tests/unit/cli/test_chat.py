"""The chat command as a process: on a real terminal, and at the end of a pipe."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving

from corral.v1 import inference_pb2

CORRAL = (sys.executable, "-c", "from corral.cli.main import main; main()")
# A session's first process has to claim its terminal for Ctrl-C to reach it.
ON_ITS_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "from corral.cli.main import main; main()",
)
SECONDS = 60
CTRL_C = b"\x03"
CTRL_D = b"\x04"


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference([inference_pb2.Model(name="gpt2", is_base=True)])


@pytest.fixture
def server(inference: FakeInference) -> Iterator[str]:
    with serving(FakeTrainer(), inference) as address:
        yield address


class Screen:
    """A process on a pseudo-terminal: type, and wait for what shows."""

    def __init__(self, *arguments: str) -> None:
        self._terminal, end = pty.openpty()
        # Not pty.fork: this process runs gRPC's threads, and forking one with threads may hang it.
        self._process = subprocess.Popen(
            [*ON_ITS_TERMINAL, *arguments],
            env={**os.environ, "TERM": "dumb"},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self._shown = b""

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)

    def wait_for(self, text: str) -> None:
        """Return once the text shows behind what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while text.encode() not in self._shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} does not show in {self._shown!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self._shown += os.read(self._terminal, 4096)
        self._shown = self._shown.partition(text.encode())[2]

    def exit_code(self) -> int:
        code = self._process.wait(SECONDS)
        os.close(self._terminal)
        return code


def test_ctrl_c_stops_a_reply_and_not_the_program(server: str, inference: FakeInference) -> None:
    screen = Screen("chat", "gpt2", "--server", server)
    screen.wait_for("> ")
    screen.type(b"endless\n")
    screen.wait_for("on and on")
    screen.type(CTRL_C)
    screen.wait_for("Stopped.")
    assert inference.cancelled.wait(SECONDS)

    screen.wait_for("> ")
    screen.type(b"is it so?\n")
    screen.wait_for("It is so.")
    screen.wait_for("2 tokens")
    screen.wait_for("> ")
    screen.type(CTRL_D)
    assert screen.exit_code() == 0


def test_a_model_that_does_not_exist_ends_the_command_before_a_question(server: str) -> None:
    screen = Screen("chat", "nope", "--server", server)
    screen.wait_for("error: There is no model nope.")
    assert screen.exit_code() == 3


def piped(prompt: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CORRAL, "chat", *arguments],
        input=prompt,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_piped_prompt_gets_its_answer_and_nothing_else(
    server: str, inference: FakeInference
) -> None:
    found = piped("first line\n\nlast line\n", "gpt2", "--server", server)

    assert (found.returncode, found.stdout, found.stderr) == (0, "It is so.\n", "")
    [request] = inference.requests
    assert [message.content for message in request.messages] == ["first line\n\nlast line"]


def test_only_the_sampling_options_that_were_given_are_sent(
    server: str, inference: FakeInference
) -> None:
    options = ("--temperature", "0", "--stop", "a", "--stop", "b", "--system", "Be brief.")

    piped("hello", "gpt2", "--server", server, *options)

    [request] = inference.requests
    sent = {field.name: value for field, value in request.sampling.ListFields()}
    assert sent == {"temperature": 0.0, "stop": ["a", "b"]}
    assert [message.content for message in request.messages] == ["Be brief.", "hello"]


def test_an_empty_prompt_is_refused(server: str, inference: FakeInference) -> None:
    found = piped("\n", "gpt2", "--server", server)

    assert (found.returncode, found.stdout) == (2, "")
    assert inference.requests == []


def test_a_script_gets_the_errors_exit_code() -> None:
    found = piped("hello", "gpt2", "--server", "127.0.0.1:1")

    assert (found.returncode, found.stdout) == (6, "")
    assert found.stderr.startswith("error: ")
