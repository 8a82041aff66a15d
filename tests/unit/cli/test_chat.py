"""The chat command as a process: on a real terminal, and at the end of a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving
from tests.unit.cli.screen import SECONDS, Screen

from corral.v1 import inference_pb2

CORRAL = (sys.executable, "-c", "from corral.cli.main import main; main()")
CTRL_C = b"\x03"
CTRL_D = b"\x04"


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference([inference_pb2.Model(name="gpt2", is_base=True)])


@pytest.fixture
def server(inference: FakeInference) -> Iterator[str]:
    with serving(FakeTrainer(), inference) as address:
        yield address


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


def test_an_answer_can_not_command_the_terminal(server: str, inference: FakeInference) -> None:
    inference.pieces = ["a\x1b]0;title\x07", "\x1b[2Jb"]
    screen = Screen("chat", "gpt2", "--server", server)
    screen.wait_for("> ")
    screen.type(b"is it so?\n")
    screen.wait_for("a\\x1b]0;title\\x07\\x1b[2Jb")
    screen.wait_for("> ")
    screen.type(CTRL_D)
    assert screen.exit_code() == 0


def piped(prompt: str | bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    data = prompt.encode() if isinstance(prompt, str) else prompt
    found = subprocess.run(
        [*CORRAL, "chat", *arguments],
        input=data,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return subprocess.CompletedProcess(
        found.args, found.returncode, found.stdout.decode(), found.stderr.decode()
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


def test_a_prompt_that_is_not_utf8_is_refused_with_the_byte_at_fault(
    server: str, inference: FakeInference
) -> None:
    found = piped(b"ab\xff\xfe", "gpt2", "--server", server)

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: The prompt on stdin is not UTF-8: byte 0xff at 2.")
    assert inference.requests == []


def test_an_answer_that_was_cut_says_so_beside_it(server: str, inference: FakeInference) -> None:
    inference.finish = inference_pb2.Finish(reason=inference_pb2.FINISH_REASON_LENGTH)

    found = piped("hello", "gpt2", "--server", server)

    assert (found.returncode, found.stdout) == (0, "It is so.\n")
    assert "--max-tokens" in found.stderr


def test_an_answer_that_was_ended_because_it_repeats_itself_says_so_beside_it(
    server: str, inference: FakeInference
) -> None:
    inference.finish = inference_pb2.Finish(reason=inference_pb2.FINISH_REASON_LOOP)

    found = piped("hello", "gpt2", "--server", server, "--no-loop-guard")

    assert "repeat itself" in found.stderr
    assert inference.requests[0].sampling.HasField("loop_guard")
    assert not inference.requests[0].sampling.loop_guard


# ---------------------------------------------------------------- side by side


@pytest.fixture
def two_models(inference: FakeInference) -> tuple[str, str]:
    inference.models.append(inference_pb2.Model(name="tuned", job_id="job-1"))
    return "gpt2", "job-1"


def test_a_piped_prompt_to_several_models_gets_a_block_for_each(
    server: str, inference: FakeInference, two_models: tuple[str, str]
) -> None:
    found = piped("hello", *two_models, "--server", server)

    assert found.returncode == 0
    assert found.stdout == "== gpt2\nIt is so.\n== tuned\nIt is so.\n"
    seeds = {request.sampling.seed for request in inference.requests}
    assert len(seeds) == 1
    assert f"Seed {seeds.pop()}." in found.stderr


def test_a_script_gets_the_error_of_one_of_several_models_after_the_others_answers(
    server: str, inference: FakeInference, two_models: tuple[str, str]
) -> None:
    inference.failing = "gpt2"

    found = piped("hello", *two_models, "--server", server)

    assert found.returncode == 2
    assert found.stdout.endswith("== tuned\nIt is so.\n")
    assert "error: gpt2 broke." in found.stderr


def test_more_models_than_can_be_read_are_refused(server: str) -> None:
    found = piped("hello", "a", "b", "c", "d", "--server", server)

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: 4 models are too many")


def test_on_a_wide_terminal_answers_stand_beside_each_other(
    server: str, two_models: tuple[str, str]
) -> None:
    screen = Screen("chat", *two_models, "--server", server, term="xterm", columns=100)
    screen.wait_for("Chatting with gpt2 and tuned.")
    screen.wait_for("> ")
    screen.type(b"is it so?\n")
    # The border between the columns.
    screen.wait_for(f"{'It is so.':47} \u2502 It is so.")
    screen.wait_for("2 tokens")
    screen.wait_for("Seed ")
    screen.wait_for("> ")
    screen.type(CTRL_D)
    assert screen.exit_code() == 0


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_ctrl_c_stops_all_replies_and_not_the_program(
    server: str, inference: FakeInference, two_models: tuple[str, str], term: str
) -> None:
    screen = Screen("chat", *two_models, "--server", server, term=term, columns=100)
    screen.wait_for("> ")
    screen.type(b"endless\n")
    screen.wait_for("on and on")
    screen.type(CTRL_C)
    screen.wait_for("Stopped.")
    screen.wait_for("> ")
    screen.type(CTRL_D)
    assert screen.exit_code() == 0
    assert inference.cancelled.wait(SECONDS)


def test_a_script_gets_the_errors_exit_code() -> None:
    found = piped("hello", "gpt2", "--server", "127.0.0.1:1")

    assert (found.returncode, found.stdout) == (6, "")
    assert found.stderr.startswith("error: ")


def test_the_answer_to_a_piped_prompt_is_json_where_that_is_asked_for(
    server: str, inference: FakeInference
) -> None:
    inference.finish.reason = inference_pb2.FINISH_REASON_STOP

    one = piped("is it so?", "gpt2", "--json", "--server", server)
    two = piped("is it so?", "gpt2", "gpt2", "--json", "--server", server)

    assert json.loads(one.stdout)["text"] == "It is so."
    assert json.loads(one.stdout)["reason"] == "STOP"
    assert [answer["completion_tokens"] for answer in json.loads(two.stdout)] == [2, 2]


def test_json_is_for_programs_and_not_for_a_conversation(server: str) -> None:
    screen = Screen("chat", "gpt2", "--json", "--server", server)
    screen.wait_for("error: --json is for a prompt on stdin.")
    assert screen.exit_code() == 2
