"""`corral modal`: what is left on a Modal account, and removing it.

Talks to Modal itself, with the token in this environment; no Corral has to run. Knows nothing of
jobs' states.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral import formatting
from corral.cli import output
from corral.cli.examples import epilog
from corral.cli.flags import JsonFlag
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.launchers.modal.leftovers import Leftover, Leftovers

app = typer.Typer(no_args_is_help=True, help="What Corral's jobs have left on Modal.")

Answer = TypeVar("Answer")


@app.command(epilog=epilog("modal volumes"))
def volumes(as_json: JsonFlag = False) -> None:
    """List the volumes that jobs have left on Modal, with their sizes and what they cost."""
    found = _with_leftovers(lambda leftovers: leftovers.find())
    if as_json:
        output.result_json([asdict(one) for one in found])
    elif found:
        output.result(_table(found))
    else:
        output.say("Nothing of Corral's is left on Modal.")


@app.command(epilog=epilog("modal clean"))
def clean(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VOLUME]…", help="Default: all of this data folder's jobs."),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Also end runs that still work, and lose their rest.")
    ] = False,
    others: Annotated[
        bool, typer.Option("--others", help="Also what other data folders' jobs have left.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what jobs have left on Modal, after asking."""
    found = _with_leftovers(lambda leftovers: leftovers.find())
    chosen = choose(found, names or [], running=running, others=others)
    if not chosen:
        output.say("There is nothing to delete.")
        return
    output.say(_table(chosen))
    if not yes and not typer.confirm(
        f"Delete {formatting.count(len(chosen), 'volume')}?", err=True
    ):
        raise typer.Abort
    _with_leftovers(lambda leftovers: leftovers.remove(chosen))
    output.say(f"Deleted {formatting.count(len(chosen), 'volume')}.")


def choose(
    found: list[Leftover], names: list[str], *, running: bool, others: bool
) -> list[Leftover]:
    """What is to be deleted. Raises InvalidRequestError for a name that is not there, or that was
    named and still runs.
    """
    unknown = [name for name in names if name not in {one.name for one in found}]
    if unknown:
        raise InvalidRequestError(
            f"There is no volume {unknown[0]!r:.80} of Corral's.", "See: corral modal volumes"
        )
    if names:
        chosen = [one for one in found if one.name in names]
    else:
        chosen = [one for one in found if one.is_ours or others]
    working = [one for one in chosen if one.call]
    if names and working and not running:
        raise InvalidRequestError(
            f"A run still works on {working[0].name}.",
            f"`corral jobs cancel {working[0].job}` ends it with a checkpoint; --running kills it.",
        )
    return [one for one in chosen if running or not one.call]


def _with_leftovers(call: Callable[[Leftovers], Awaitable[Answer]]) -> Answer:
    """Connect with this environment's token, call, and let go."""
    try:
        from corral.launchers.modal.leftovers import Leftovers
        from corral.launchers.modal.setup import connection_of, deployment_id
    except ImportError as error:
        raise InvalidRequestError(
            f"Modal's client can't be loaded: {error}.", "Install it: pip install 'corral[modal]'."
        ) from error
    from corral.settings import load_settings

    settings = load_settings()

    async def connected() -> Answer:
        connection = connection_of(settings)
        try:
            return await call(Leftovers(connection, deployment_id(settings.data.expanduser())))
        finally:
            await connection.close()

    return asyncio.run(connected())


def _table(found: list[Leftover]) -> str:
    headers = ("volume", "job", "size", "a month", "age", "")
    return output.table(headers, [_row(one) for one in found])


def _row(one: Leftover) -> tuple[str, ...]:
    notes = ["a run works on it"] if one.call else []
    notes += [] if one.is_ours else ["of another data folder"]
    return (
        one.name,
        one.job,
        formatting.size(one.size_bytes),
        f"${one.cost_a_month:.2f}",
        formatting.age(time.time() - one.created_at),
        ", ".join(notes),
    )
