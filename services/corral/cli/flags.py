"""What many commands share: flags, the question that --yes answers, the client of `--server`.

Knows nothing of the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.completing import complete_models
from corral.cli.target import Target
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from corral.client.connection import Connection


def _target(context: typer.Context, given: Target | None) -> Target:
    from corral.cli.profiles import choose_target

    return given or choose_target(context.find_root().params.get("profile"))


ServerFlag = Annotated[
    Target | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="The trainer to talk to, else --profile's, CORRAL_SERVER's, or this machine's.",
        show_default=False,
        parser=Target,
        callback=_target,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=complete_models,
        help="Its name, or a job's id for its newest checkpoint, JOB@50 for that of a step.",
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def default_of(model: type[BaseModel], field: str) -> str:
    """`Default: 3.`, from where the default is written; empty where there is none."""
    default = model.model_fields[field].default
    if default is None:
        return ""
    if isinstance(default, Path) and default.is_relative_to(Path.home()):
        default = Path("~") / default.relative_to(Path.home())
    return f"Default: {default}."


def confirmed(question: str) -> bool:
    """Ask on the terminal. Raises InvalidRequestError where there is none."""
    if not sys.stdin.isatty():
        raise InvalidRequestError(
            "Deleting asks first, and there is no terminal to ask on.", "Add --yes."
        )
    return typer.confirm(question, err=True)


def connect(server: Target | None) -> Connection:
    """A connection to what `--server` or `--profile` or the environment names."""
    from corral.cli.profiles import choose_target
    from corral.client.connection import Connection

    target = server or choose_target(None)
    return Connection(target.server, key=target.key)
