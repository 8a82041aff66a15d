"""The entry point of `corral`: its commands, and how errors become a line and an exit code.

Importing this stays fast: each command imports what it needs when it runs. Knows nothing of what
the commands do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from corral import __version__
from corral.cli import chat, compare_prompts, jobs, login, models, output, plan, train
from corral.cli import data as data_command
from corral.cli import modal as modal_command
from corral.cli.examples import epilog
from corral.cli.flags import JsonFlag, ServerFlag, connect
from corral.cli.up import command as up_command
from corral.errors import CorralError

INTERRUPTED = 130
BROKEN_PIPE = 1  # as Typer does, where it sees it first
UNEXPECTED = 1

app = typer.Typer(
    help="Fine-tune small language models on your own instructions, and chat with every checkpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "up": up_command.up,
    "plan": plan.plan,
    "train": train.train,
    "chat": chat.chat,
    "compare-prompts": compare_prompts.compare_prompts,
    "login": login.login,
    "logout": login.logout,
    "profiles": login.profiles,
}
for _name, _function in _COMMANDS.items():
    app.command(_name, epilog=epilog(_name))(_function)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(data_command.app, name="data")
app.add_typer(modal_command.app, name="modal")


def _print_version(wanted: bool) -> None:
    if wanted:
        output.result(f"corral {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The server that `corral login` knows by this name, else CORRAL_PROFILE; may stand"
            " anywhere in the line.",
        ),
    ] = None,
) -> None:
    """Holds --version and --profile; Typer reads it from the signature."""


@app.command(epilog=epilog("version"))
def version(server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """Print this client's version, and the server's when one answers."""
    with connect(server) as client:
        try:
            answer = client.server_info().version
        except CorralError as error:
            answer = None
            output.say(error.message)
    if as_json:
        output.result_json({"client": __version__, "server": answer, "address": client.address})
    else:
        output.result(f"client {__version__}")
        if answer is not None:
            output.result(f"server {answer} at {client.address}")


def main() -> None:
    """What the `corral` command calls."""
    # grpc's C core would tell on stderr of every connection that a stopping server ends.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], program: typer.Typer = app) -> int:
    """Run one command line; returns its exit code. No exception of a command leaves it."""
    try:
        return _dispatch(arguments, program)
    except CorralError as error:
        _show(error.message, error.hint)
        return error.kind.value.exit_code
    except typer.TyperException as error:
        # Without a message it has shown the help already.
        if said := error.format_message():
            _show(said, "corral --help, or --help behind a command, lists what it takes.")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except Exception as error:  # the last resort: a bug, told in one line
        if os.environ.get("CORRAL_DEBUG"):
            raise
        _show(
            f"{type(error).__name__}: {error}",
            "This is a bug in corral. With CORRAL_DEBUG=1 the same command shows where.",
        )
        return UNEXPECTED


def _dispatch(arguments: Sequence[str], program: typer.Typer) -> int:
    command = typer.main.get_command(program)
    code = command.main(_profile_first(arguments), prog_name="corral", standalone_mode=False)
    # Written out here, where a reader that has gone is still caught.
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _profile_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with --profile, which belongs to no single command, in front of the command."""
    found: list[str] = []
    others: list[str] = []
    left = list(arguments)
    while left and left[0] != "--":
        argument = left.pop(0)
        if argument == "--profile":
            found = [argument, *left[:1]]
            left = left[1:]
        elif argument.startswith("--profile="):
            found = [argument]
        else:
            others.append(argument)
    return [*found, *others, *left]


def _show(message: str, hint: str) -> None:
    output.say(f"error: {message}")
    if hint:
        output.say(hint)


def _forget_stdout() -> None:
    """Keep the interpreter from flushing, and failing, once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
