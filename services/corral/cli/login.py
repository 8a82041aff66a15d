"""`corral login`, `logout` and `profiles`: servers by name.

Knows nothing of how profiles are kept. Servers don't check keys yet; they are sent all the same.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from corral.cli import output
from corral.cli.flags import JsonFlag
from corral.cli.profiles import (
    DEFAULT_NAME,
    choose_target,
    load_profiles,
    profiles_file,
    save_profiles,
)
from corral.cli.target import Target
from corral.errors import CorralError, InvalidRequestError

_STDIN = "-"


def login(
    server: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The trainer's address. Default: as used now."),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call it.")] = DEFAULT_NAME,
    key: Annotated[
        str,
        typer.Option(
            help="An API key, sent with each call; - reads it from stdin, out of the shell's history."
            " Servers don't check keys yet."
        ),
    ] = "",
) -> None:
    """Remember a server under a name, and use it from now on.

    The file is ~/.config/corral/profiles.toml, readable by its owner only.
    """
    target = Target(server or choose_target(None).server, _key(key))
    path = profiles_file()
    save_profiles(path, load_profiles(path).with_target(name, target))
    output.say(f"Profile {name}: {target.server}, from now on. Kept in {path}.")
    if target.key:
        output.say("Its key goes with each call, unencrypted; servers don't check keys yet.")
    _say_whether_it_answers(target)


def logout(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The profile. Default: the one in use.")
    ] = None,
) -> None:
    """Forget a server and its key."""
    path = profiles_file()
    known = load_profiles(path)
    chosen = name or known.current
    if not chosen:
        raise InvalidRequestError("No profile is in use.", "corral profiles lists them.")
    left = known.without(chosen)
    save_profiles(path, left)
    output.say(f"Profile {chosen} is forgotten.")
    if not left.current and left.targets:
        output.say("None is in use now: corral profiles --use NAME")


def profiles(
    use: Annotated[str | None, typer.Option(metavar="NAME", help="Use this from now on.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the servers that are known by name; keys are not shown."""
    path = profiles_file()
    known = load_profiles(path)
    if use is not None:
        known = known.using(use)
        save_profiles(path, known)
    rows = [
        {
            "name": name,
            "server": target.server,
            "has_key": bool(target.key),
            "in_use": name == known.current,
        }
        for name, target in known.targets.items()
    ]
    if as_json:
        output.result_json(rows)
    elif rows:
        cells = [
            (
                str(row["name"]),
                str(row["server"]),
                "yes" if row["has_key"] else "no",
                "*" if row["in_use"] else "",
            )
            for row in rows
        ]
        output.result(output.table(("name", "server", "key", "in use"), cells))
    else:
        output.say("No profiles. Make one: corral login --server HOST:PORT --name NAME")


def _key(given: str) -> str:
    key = sys.stdin.readline().strip() if given == _STDIN else given
    # A header's value: no server takes another.
    if not (key.isascii() and (key.isprintable() or not key)):
        raise InvalidRequestError("A key is made of printable ASCII characters.")
    return key


def _say_whether_it_answers(target: Target) -> None:
    from corral.client.connection import Connection

    with Connection(target.server, key=target.key) as connection:
        try:
            version = connection.server_info().version
        except CorralError as error:
            output.say(f"It does not answer now: {error.message}")
        else:
            output.say(f"It answers: corral {version}.")
