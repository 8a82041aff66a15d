"""`corral data`: look at a file before anything is spent on it, and at what was uploaded.

Knows nothing of how rows are read or checked, or of how a report reads to a person.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from corral import formatting
from corral.cli import output
from corral.cli.completing import complete_datasets
from corral.cli.examples import epilog
from corral.cli.flags import (
    JsonFlag,
    ServerFlag,
    YesFlag,
    confirmed,
    connect,
    default_of,
)
from corral.cli.sending import SHORTEST_ID, whole_id
from corral.cli.writing import STDOUT, opened_for_writing
from corral.errors import DatasetError
from corral.settings import Settings, load_settings

if TYPE_CHECKING:
    from corral.data.report import Report
    from corral.spec import TrainingSpec

UNUSABLE = 2

app = typer.Typer(
    help="Check and convert files; list, show and delete uploaded data sets.", no_args_is_help=True
)

IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        autocompletion=complete_datasets,
        help=f"The data set's id, or its first digits: {SHORTEST_ID} or more.",
    ),
]


@app.command(epilog=epilog("data check"))
def check(
    file: Annotated[
        Path, typer.Argument(help="Alpaca JSON, JSONL, prompt/completion or messages.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Count in this base model's tokens; else only the structure.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="alpaca, chatml, model or a Jinja file.")
    ] = None,
    preamble: Annotated[
        str | None, typer.Option(metavar="TEXT|FILE", help="In place of the alpaca preamble.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens of prompt and answer together.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data folder that holds base models, else CORRAL_DATA. "
            + default_of(Settings, "data")
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what is in FILE, what is wrong with it, and which tokens would be trained on.

    Exit code 2 when it can't be trained on.
    """
    from corral.cli.options import template_fields
    from corral.cli.report_output import show_report

    given = {"model": model, "max_length": max_length} | template_fields(template, preamble)
    report = _checked(
        file, {name: value for name, value in given.items() if value is not None}, data
    )
    if as_json:
        output.result_json({"file": str(file), **report.model_dump(mode="json")})
    else:
        show_report(str(file), report)
    if not report.ok:
        raise typer.Exit(UNUSABLE)


@app.command(epilog=epilog("data convert"))
def convert(
    source: Annotated[Path, typer.Argument(help="Rows of instruction, input and output.")],
    target: Annotated[Path, typer.Argument(help="The JSONL file to write; - is stdout.")] = STDOUT,
) -> None:
    """Join each row's input to its instruction: rows of instruction and output, as JSONL."""
    from corral.data.converting import convert_rows

    try:
        with _opened(source) as stream, opened_for_writing(target) as file:
            rows = convert_rows(stream, file)
    except BrokenPipeError:
        # A reader that has had enough, as of every other command.
        raise
    except OSError as error:
        raise DatasetError(f"{target} can't be written: {error.strerror}.") from error
    where = "stdout" if target == STDOUT else target
    output.say(f"{formatting.count(rows, 'row')} written to {where}.")


@app.command("list", epilog=epilog("data list"))
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """List uploaded data sets, newest first."""
    from corral.cli.plain import to_plain
    from corral.cli.report_output import dataset_table

    with connect(server) as client:
        datasets = client.list_datasets(limit)
    if as_json:
        output.result_json([to_plain(dataset) for dataset in datasets])
    elif datasets:
        output.result(dataset_table(datasets, time.time()))
    else:
        output.say("No data sets. `corral train FILE` uploads one.")


@app.command(epilog=epilog("data show"))
def show(dataset: IdArgument, server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """Show an uploaded data set and what checking its rows found."""
    from corral.cli.plain import to_plain
    from corral.cli.report_output import dataset_details

    with connect(server) as client:
        found = client.get_dataset(whole_id(client, dataset))
    if as_json:
        output.result_json(to_plain(found))
    else:
        output.result(dataset_details(found, time.time()))


@app.command(epilog=epilog("data delete"))
def delete(dataset: IdArgument, yes: YesFlag = False, server: ServerFlag = None) -> None:
    """Remove an uploaded data set. Refused while a job that has not ended needs it."""
    with connect(server) as client:
        found = client.get_dataset(whole_id(client, dataset))
        if not yes and not confirmed(f"Delete data set {found.id} ({found.filename})?"):
            output.say("Nothing was deleted.")
            raise typer.Exit(1)
        client.delete_dataset(found.id)
    output.result(found.id)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise DatasetError(
            f"{file} can't be read: {error.strerror}.", "Name a JSON or JSONL file."
        ) from error
    with stream:
        yield stream


def _checked(file: Path, fields: dict[str, Any], data: Path | None) -> Report:
    """With a model all that a job's check would find, else what the structure shows."""
    from corral.data.checking import check_structure
    from corral.spec import parse_spec

    spec = parse_spec(fields)
    with _opened(file) as stream:
        if "model" in fields:
            return _check_for_training(stream, spec, data)
        output.say("Only the structure is checked. With --model NAME tokens are counted too.")
        return check_structure(stream)


def _check_for_training(stream: BinaryIO, spec: TrainingSpec, data: Path | None) -> Report:
    from corral.bases import context_length, find_tokenizer
    from corral.data.checking import check_for_training
    from corral.data.templates import PromptTemplate
    from corral.data.tokenizing import fit_tokenizer
    from corral.volume import Volume

    base = find_tokenizer(spec.model, Volume(data or load_settings().data))
    template = PromptTemplate.from_spec(spec, base)
    tokenizer = fit_tokenizer(base, template)
    if tokenizer.added_tokens:
        output.say(f"Tokens that training adds: {' '.join(tokenizer.added_tokens)}")
    longest = context_length(base)
    if spec.max_length > longest:
        output.say(f"{spec.model} reads at most {longest:,} tokens: counted with that.")
    return check_for_training(stream, template, tokenizer, min(spec.max_length, longest))
