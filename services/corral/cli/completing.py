"""What the shell offers for the rest of a word: ids and names that the server knows.

A server that does not answer within a moment offers nothing, and nothing is said: a person is typing.
Knows nothing of the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.client.connection import Connection

_MOST = 200
_SECONDS = 1.0


def complete_jobs(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of jobs, newest first, each with its state and its base model."""

    def offered(connection: Connection) -> Iterator[tuple[str, str]]:
        from corral.cli.watching import state_name

        for job in connection.list_jobs(_MOST):
            yield job.id, f"{state_name(job.state).lower()}, {job.spec.model}"

    return _matching(context, incomplete, offered)


def complete_models(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of models, and ids of the jobs that made some."""

    def offered(connection: Connection) -> Iterator[tuple[str, str]]:
        models = connection.list_models(_MOST).models
        for model in models:
            yield model.name, "base model" if model.is_base else f"step {model.step}"
        for job in {model.job_id for model in models if model.job_id}:
            yield job, "its newest checkpoint"
            yield f"{job}@best", "its best checkpoint"

    return _matching(context, incomplete, offered)


def complete_datasets(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of data sets, newest first, each with its file's name."""

    def offered(connection: Connection) -> Iterator[tuple[str, str]]:
        for dataset in connection.list_datasets(_MOST):
            yield dataset.id, dataset.filename

    return _matching(context, incomplete, offered)


def _matching(
    context: typer.Context,
    incomplete: str,
    offered: Callable[[Connection], Iterator[tuple[str, str]]],
) -> list[tuple[str, str]]:
    from corral.cli.profiles import choose_target
    from corral.client.connection import Connection

    with suppress(CorralError):
        named = context.params.get("server")
        target = named or choose_target(context.find_root().params.get("profile"))
        with Connection(target.server, key=target.key) as connection:
            connection.server_info(_SECONDS)
            return [one for one in offered(connection) if one[0].startswith(incomplete)]
    return []
