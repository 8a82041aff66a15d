"""What many commands share: flags, the question that --yes answers, the client of `--server`.

Knows nothing of the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from corral.cli.client import Client

ServerFlag = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="HOST:PORT", help="The trainer to talk to, else CORRAL_SERVER.",
        show_default=False,
    ),
]  # fmt: skip
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


def connect(server: str | None) -> Client:
    """A client for `--server`, else for CORRAL_SERVER, else for this machine."""
    from corral.cli.client import Client
    from corral.settings import load_settings

    return Client(server or load_settings().server)
