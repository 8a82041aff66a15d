"""What reaches a terminal, and what a program reads."""

from __future__ import annotations

import io

import pytest

from corral.cli import output

HOSTILE = "\x1b]0;title\x07 \x9b2J \r \x7f"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_control_characters_as_text() -> None:
    shown = output.printable(f"{HOSTILE}\tä\n", Terminal())

    assert shown == "\\x1b]0;title\\x07 \\x9b2J \\x0d \\x7f\tä\n"


def test_a_program_gets_what_was_said() -> None:
    assert output.printable(HOSTILE, io.StringIO()) == HOSTILE


def test_every_line_goes_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    output.result("a\x1b[2J")
    output.piece("b\x1b[2J")
    output.say("c\x1b[2J")
    output.say("d\x1b[2J", dim=True)

    assert stdout.getvalue() == "a\\x1b[2J\nb\\x1b[2J"
    assert stderr.getvalue() == "c\\x1b[2J\n\x1b[2md\\x1b[2J\x1b[0m\n"
