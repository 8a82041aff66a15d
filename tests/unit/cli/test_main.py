from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from corral import __version__
from corral.cli.main import app, run
from corral.errors import CorralError, all_errors


def program_raising(error: BaseException) -> typer.Typer:
    program = typer.Typer(pretty_exceptions_enable=False)

    @program.command()
    def fail() -> None:
        raise error

    return program


@pytest.mark.parametrize("error_class", all_errors().values(), ids=lambda cls: cls.code)
def test_an_error_is_one_line_with_its_hint_below_and_its_kinds_exit_code(
    error_class: type[CorralError], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([], program_raising(error_class("What was wrong.", "What to do.")))

    assert code == error_class.kind.value.exit_code
    assert code != 0
    assert capsys.readouterr() == ("", "error: What was wrong.\nWhat to do.\n")


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run([], program_raising(CorralError("What was wrong.")))

    assert capsys.readouterr().err == "error: What was wrong.\n"


def test_a_bug_is_one_line_that_says_how_to_see_where(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([], program_raising(ZeroDivisionError("by zero"))) == 1

    said = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in said
    assert "CORRAL_DEBUG=1" in said
    assert "Traceback" not in said


def test_a_bug_shows_where_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_DEBUG", "1")

    with pytest.raises(ZeroDivisionError):
        run([], program_raising(ZeroDivisionError()))


def test_ctrl_c_exits_with_130() -> None:
    assert run([], program_raising(KeyboardInterrupt())) == 130


def test_the_version_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0

    assert capsys.readouterr().out == f"corral {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "train"),
        (["train"], "FILE"),
        (["train", "rows.jsonl", "--epochs", "many"], "--epochs"),
        (["jobs", "list", "--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err.splitlines()[0]


def test_an_impossible_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRAL_TRAINER_PORT", "seven")

    assert run(["jobs", "list"]) == 2

    assert "CORRAL_TRAINER_PORT: 'seven'" in capsys.readouterr().err


def test_a_group_without_a_command_shows_its_help_and_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["jobs"])

    out, err = capsys.readouterr()
    assert "watch" in out + err
    assert "error" not in err


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("up", "Default: 7470."),
        ("up", "Default: 127.0.0.1."),
        ("up", "Default: ~/.corral."),
        ("chat", "Default: 0.7."),
        ("chat", "Default: 100."),
    ],
)
def test_help_shows_the_defaults(command: str, shown: str) -> None:
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]

    assert any(shown in parameter.help for parameter in parameters)


def test_a_reader_that_goes_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(
        [sys.executable, "-c", "from corral.cli.main import main; main()", "--version"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)

    assert process.stderr == b""


def test_starting_loads_no_library_that_a_command_may_not_need() -> None:
    program = (
        "import sys, corral.cli.main\n"
        "slow = {'grpc', 'google.protobuf', 'rich', 'torch', 'redis', 'tokenizers', 'jinja2'}\n"
        "print(*sorted(slow & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert process.stdout.split() == []
