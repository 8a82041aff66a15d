"""The examples in the help: each command has some, and each is one that the command line takes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer

from corral.cli.examples import EXAMPLES
from corral.cli.main import app

PROGRAM: Any = typer.main.get_command(app)


def commands(group: Any = PROGRAM, words: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, (*words, name))
        else:
            found[" ".join((*words, name))] = command
    return found


def test_every_command_has_examples_and_there_are_none_of_others() -> None:
    assert set(EXAMPLES) == set(commands())


@pytest.mark.parametrize("example", [one for many in EXAMPLES.values() for one in many])
def test_an_example_is_understood(example: str) -> None:
    line = example.rpartition("| corral ")[2] if "| corral " in example else example
    words = shlex.split(line.removeprefix("corral ").partition(" | ")[0])
    words = words[: words.index(">")] if ">" in words else words
    words = words[: words.index("<")] if "<" in words else words
    name = next(n for n in (" ".join(words[:2]), words[0]) if n in commands())
    command = commands()[name]
    rest = words[len(name.split()) :]

    # Only parsed: flags that there are not, and missing arguments, are refused here.
    context = command.make_context(name, rest, resilient_parsing=True)

    assert context.args == []
    for parameter in command.params:
        if parameter.required:
            assert context.params[parameter.name] is not None, parameter.name


@pytest.mark.parametrize("name", commands())
def test_the_examples_stand_below_the_help(name: str) -> None:
    for example in EXAMPLES[name]:
        assert example in commands()[name].epilog
