"""`corral models`: what can be chatted with.

Knows nothing of how models are found or loaded; the server does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from corral import formatting
from corral.cli import output
from corral.cli.flags import JsonFlag, ServerFlag, connect

if TYPE_CHECKING:
    from corral.v1 import inference_pb2

app = typer.Typer(help="Base models and checkpoints to chat with.", no_args_is_help=True)


@app.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """List base models and published checkpoints."""
    from corral.cli.plain import to_plain

    with connect(server) as client:
        models = client.list_models(limit)
    if as_json:
        output.result_json([to_plain(model) for model in models])
    elif models:
        output.result(model_table(models, time.time()))
    else:
        output.say("No models yet. Train one: corral train FILE --model MODEL")


@app.command()
def show(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Its name, or a job's id for its newest checkpoint."),
    ],
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one model."""
    from corral.cli.plain import to_plain

    with connect(server) as client:
        found = client.get_model(model)
    if as_json:
        output.result_json(to_plain(found))
    else:
        output.result(model_details(found, time.time()))


def model_table(models: list[inference_pb2.Model], now: float) -> str:
    """One line a model. `now` is seconds since the epoch."""
    headers = ("model", "step", "size", "template", "loaded", "age")
    return output.table(headers, [_row(model, now) for model in models])


def model_details(model: inference_pb2.Model, now: float) -> str:
    """All that is known of a model, for a person."""
    return output.fields(
        [
            ("model", model.name),
            ("base model", model.base_model),
            ("job", model.job_id),
            ("step", str(model.step) if model.job_id else ""),
            ("template", model.template),
            ("size", formatting.size(model.size_bytes) if model.size_bytes else ""),
            ("loaded", "yes" if model.is_loaded else "no"),
            ("created", f"{_age(model, now)} ago" if model.HasField("created_at") else ""),
        ]
    )


def _row(model: inference_pb2.Model, now: float) -> tuple[str, ...]:
    return (
        model.name,
        str(model.step) if model.job_id else "-",
        formatting.size(model.size_bytes) if model.size_bytes else "-",
        model.template or "-",
        "yes" if model.is_loaded else "no",
        _age(model, now) if model.HasField("created_at") else "-",
    )


def _age(model: inference_pb2.Model, now: float) -> str:
    return formatting.age(now - model.created_at.ToNanoseconds() / 1e9)
