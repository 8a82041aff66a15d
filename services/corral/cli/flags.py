"""The flags that many commands share, and the client that `--server` leads to.

Knows nothing of the commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.cli.client import Client
    from corral.settings import Settings

ServerFlag = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="HOST:PORT", help="The trainer to talk to, else CORRAL_SERVER.",
        show_default=False,
    ),
]  # fmt: skip
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def load_settings() -> Settings:
    """The settings of this process. Raises InvalidRequestError naming the variable at fault."""
    from pydantic import ValidationError

    from corral.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        variable = name if name.isupper() else f"CORRAL_{name.upper()}"
        raise InvalidRequestError(
            f"{variable}: {problem['input']!r:.80} is not allowed: {problem['msg']}.",
            "Correct the environment variable, or unset it.",
        ) from None


def connect(server: str | None) -> Client:
    """A client for `--server`, else for CORRAL_SERVER, else for this machine."""
    from corral.cli.client import Client

    return Client(server or load_settings().server)
