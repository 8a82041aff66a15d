from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving
from tests.unit.cli.screen import Screen

from corral.cli.line_reading import read_message
from corral.v1 import inference_pb2

CTRL_D = b"\x04"
UP = b"\x1b[A"


def typed(*lines: str) -> Callable[[str], str]:
    left = list(lines)

    def read_line(prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return read_line


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (["one\\"], "one\n"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""one"""'], "one"),
        (['"""', "one"], "one"),
        ([""], ""),
    ],
)
def test_lines_that_belong_together_are_one_message(lines: list[str], message: str) -> None:
    assert read_message(typed(*lines), "> ") == message


def test_the_end_of_the_input_is_the_end() -> None:
    with pytest.raises(EOFError):
        read_message(typed(), "> ")


def test_questions_are_recalled_in_the_next_chat_and_kept_to_their_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    inference = FakeInference([inference_pb2.Model(name="gpt2", is_base=True)])
    with serving(FakeTrainer(), inference) as address:
        for keys in (b"is it so?\n", UP + b"\n"):
            screen = Screen("chat", "gpt2", "--server", address)
            screen.wait_for("> ")
            screen.type(keys)
            screen.wait_for("It is so.")
            screen.wait_for("> ")
            screen.type(CTRL_D)
            assert screen.exit_code() == 0

    asked = [request.messages[-1].content for request in inference.requests]
    assert asked == ["is it so?", "is it so?"]
    assert stat.S_IMODE((tmp_path / "corral" / "chat_history").stat().st_mode) == 0o600


def test_a_message_of_several_lines_is_asked_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    inference = FakeInference([inference_pb2.Model(name="gpt2", is_base=True)])
    with serving(FakeTrainer(), inference) as address:
        screen = Screen("chat", "gpt2", "--server", address)
        screen.wait_for("> ")
        screen.type(b'"""\nfirst\n\nsecond\n"""\n')
        screen.wait_for("It is so.")
        screen.wait_for("> ")
        screen.type(CTRL_D)
        assert screen.exit_code() == 0

    assert inference.requests[0].messages[-1].content == "first\n\nsecond"
