"""Writes docs/cli.md from the command line's own help: `make docs`.

A test holds that the page is what this gives. Knows nothing of what the commands do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from corral.cli.examples import EXAMPLES
from corral.cli.main import INTERRUPTED, app
from corral.errors import Kind, all_errors

PAGE = Path(__file__).parent / "cli.md"

_INTRODUCTION = """\
# The command line

<!-- Written by docs/make_cli.py from `corral --help`: change the help, then run `make docs`. -->

Results go to stdout, all else to stderr, so `job=$(corral train my.jsonl --no-watch)` works. `--json`
prints the whole of a result for programs. Nothing asks a question where there is no terminal.

## Which server

A command talks to the first of: `--server`, the profile that `--profile` names, `CORRAL_SERVER`, the
profile that `CORRAL_PROFILE` names, the profile in use, and `127.0.0.1:7470`, where `corral up` listens.
`corral login` remembers a server and its key under a name in `~/.config/corral/profiles.toml` (or in
`XDG_CONFIG_HOME`), which only its owner may read; a file that others may read is refused. A key is sent
with each call as `authorization: Bearer KEY`, unencrypted. Corral's servers do not check keys yet: a
gateway or a proxy in front of them can.

## Completion

`corral --install-completion` installs it for the current shell (bash, zsh, fish, PowerShell);
`corral --show-completion` prints it. Ids of jobs and data sets and names of models are completed from the
server, if it answers within a second. (bash takes the colons in `ft:…` names apart: name the job there.)

## Exit codes

"""

_KINDS = {
    Kind.INTERNAL: "a bug, a crashed run, a corrupt checkpoint",
    Kind.INVALID: "what was asked for is wrong: flags, data, a job that can't fit",
    Kind.NOT_FOUND: "what it names is not there",
    Kind.CONFLICT: "it is there, but its state does not allow this; a job that was cancelled",
    Kind.EXHAUSTED: "memory, disk, budget or queue are used up",
    Kind.UNAVAILABLE: "a server does not answer",
    Kind.TIMEOUT: "an answer did not come in time",
}

_VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def page() -> str:
    """The whole page as Markdown."""
    program: Any = typer.main.get_command(app)
    sections = [_INTRODUCTION + _exit_codes(), "## Commands\n\n" + _options(program)]
    sections += [_command(words, command) for words, command in _walk(program, ())]
    return "\n\n".join(sections).rstrip() + "\n"


def _exit_codes() -> str:
    rows = [("0", "done; of a watched job: it succeeded", "")]
    for kind in sorted(Kind, key=lambda one: one.value.exit_code):
        codes = sorted(code for code, cls in all_errors().items() if cls.kind is kind)
        rows.append((str(kind.value.exit_code), _KINDS[kind], ", ".join(f"`{c}`" for c in codes)))
    rows.append((str(INTERRUPTED), "Ctrl-C; a watched job goes on", ""))
    return _table(("code", "what", "errors"), rows)


def _walk(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, (*words, name))
        else:
            yield (*words, name), command


def _command(words: tuple[str, ...], command: Any) -> str:
    name = " ".join(words)
    parts = [f"### corral {name}", _prose(command.help)]
    examples = "\n".join(EXAMPLES[name])
    parts.append(f"```bash\n{examples}\n```")
    parts.append(_options(command, without_panels=name == "plan"))
    return "\n\n".join(part for part in parts if part)


def _options(command: Any, *, without_panels: bool = False) -> str:
    rows = [
        (_usage(parameter), _cell(parameter.help or ""))
        for parameter in command.params
        if parameter.name != "help"
        and not (without_panels and getattr(parameter, "rich_help_panel", None))
    ]
    return _table(("", ""), rows) if rows else ""


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = [f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)]
    if parameter.is_flag:
        return ", ".join(names)
    value = parameter.metavar or _VALUES.get(parameter.type_descriptor.annotation, "VALUE")
    return ", ".join(names) + f" `{value.replace('|', ' or ')}`"


def _prose(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
