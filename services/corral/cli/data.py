"""`corral data`: look at a data set before anything is spent on it. Needs no server.

Knows nothing of how rows are read or checked; only how a report reads to a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from corral import formatting
from corral.cli import output
from corral.cli.flags import JsonFlag, load_settings
from corral.errors import DatasetError

if TYPE_CHECKING:
    from rich.text import Text

    from corral.data.report import RenderedExample, Report, TokenStats
    from corral.spec import TrainingSpec

UNUSABLE = 2
PROBLEMS_SHOWN = 20

app = typer.Typer(help="Check and convert data sets.", no_args_is_help=True)


@app.command()
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
        Path | None, typer.Option(help="The data folder that holds base models, else CORRAL_DATA.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what is in FILE, what is wrong with it, and which tokens would be trained on.

    Exit code 2 when it can't be trained on.
    """
    from corral.cli.options import template_fields
    from corral.data.checking import check_structure
    from corral.spec import parse_spec

    fields = template_fields(template, preamble)
    fields |= {} if model is None else {"model": model}
    fields |= {} if max_length is None else {"max_length": max_length}
    spec = parse_spec(fields)
    with _opened(file) as stream:
        if model is None:
            report = check_structure(stream)
            output.say("Only the structure was checked. With --model NAME tokens are counted too.")
        else:
            report = _check_for_training(stream, spec, data)
    if as_json:
        output.result_json(report.model_dump(mode="json"))
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(UNUSABLE)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Rows of instruction, input and output.")],
    target: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
) -> None:
    """Join each row's input to its instruction: rows of instruction and output, as JSONL."""
    from corral.data.converting import convert_rows

    # Whole or not at all, and TARGET may be SOURCE.
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with _opened(source) as stream, unfinished.open("w", encoding="utf-8") as file:
            rows = convert_rows(stream, file)
        unfinished.replace(target)
    except OSError as error:
        raise DatasetError(f"{target} can't be written: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
    output.say(f"{formatting.count(rows, 'row')} written to {target}.")


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


# ---------------------------------------------------------------- what a person reads


def _show(report: Report) -> None:
    output.result(output.fields(_summary(report)))
    if report.problems:
        output.result("")
    by_weight = sorted(report.problems, key=lambda problem: problem.severity != "error")
    for problem in by_weight[:PROBLEMS_SHOWN]:
        output.result(f"{problem.severity}: {problem}")
    more = report.problem_count - min(len(report.problems), PROBLEMS_SHOWN)
    if more:
        output.result(f"... and {formatting.count(more, 'more problem')} (--json shows more)")
    if report.examples:
        _show_examples(report.examples)


def _summary(report: Report) -> list[tuple[str, str]]:
    warnings = report.problem_count - report.error_count
    return [
        ("rows", f"{report.rows:,}, {report.usable_rows:,} usable"),
        ("format", report.format),
        ("errors", f"{report.error_count:,}"),
        ("warnings", f"{warnings:,}"),
        *(_token_fields(report.tokens) if report.tokens else []),
    ]


def _token_fields(tokens: TokenStats) -> list[tuple[str, str]]:
    share = tokens.trained / tokens.total
    spread = f"mean {tokens.mean:,.1f}, p50 {tokens.p50:,}, p90 {tokens.p90:,}, max {tokens.max:,}"
    return [
        ("tokens", f"{tokens.total:,}, of which {tokens.trained:,} trained ({share:.0%})"),
        ("tokens a row", spread),
        ("too long", f"{tokens.too_long:,} of more than {tokens.max_length:,} tokens"),
    ]


def _show_examples(examples: tuple[RenderedExample, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, soft_wrap=True)
    how = "in green" if console.is_terminal else "between « and »"
    for example in examples:
        console.print()
        console.print(Text(f"line {example.line}, what is trained {how}:", style="bold"))
        console.print(_coloured(example, Text(), plain=not console.is_terminal))


def _coloured(example: RenderedExample, text: Text, *, plain: bool) -> Text:
    for piece in example.pieces:
        if plain and piece.trained:
            text.append(f"«{piece.text}»")
        else:
            text.append(piece.text, style="green" if piece.trained else "dim")
    return text
