"""`corral models`: what can be chatted with, and models in and out as files.

Knows nothing of how models are found or loaded; the server does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral import formatting
from corral.cli import output
from corral.cli.examples import epilog
from corral.cli.flags import JsonFlag, ModelArgument, ServerFlag, YesFlag, confirmed, connect
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.client.model_files import ModelFiles
    from corral.v1 import inference_pb2, models_pb2

app = typer.Typer(help="Base models and checkpoints to chat with.", no_args_is_help=True)


@app.command("list", epilog=epilog("models list"))
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """List base models and published checkpoints."""
    from corral.cli.plain import to_plain

    with connect(server) as client:
        found = client.list_models(limit)
    if as_json:
        output.result_json([to_plain(model) for model in found.models])
        return
    if found.models:
        output.result(model_table(found.models, time.time()))
    else:
        output.say("No models yet. Train one: corral train FILE --model MODEL")
    output.say(memory_line(found.memory), dim=True)


@app.command(epilog=epilog("models show"))
def show(
    model: ModelArgument,
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


@app.command("import", epilog=epilog("models import"))
def import_model(
    source: Annotated[Path, typer.Argument(help="A Hugging Face folder, or a GGUF file.")],
    name: Annotated[str, typer.Option(help="The name to train and chat with it by.")],
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a base model onto the server's volume, for machines that reach no hub."""
    with connect(server) as client, _bar("Sending") as on_bytes:
        model = client.model_files.import_folder(source, name, on_bytes)
    _show_base(model, as_json)


@app.command(epilog=epilog("models pull"))
def pull(
    model: Annotated[str, typer.Argument(metavar="ID", help="A hub id, e.g. Qwen/Qwen3-0.6B.")],
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Have the server download a base model from the hub; a second pull goes on with the first."""
    with connect(server) as client, _bar("Pulling") as on_bytes:
        pulled = client.model_files.pull(model, on_bytes)
    _show_base(pulled, as_json)


@app.command(epilog=epilog("models export"))
def export(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="Where to; made where it is not there.")],
    to: Annotated[str, typer.Option(help="hf (a Hugging Face folder) or gguf.")] = "hf",
    file_type: Annotated[
        str, typer.Option("--type", help="Of a GGUF file's matrices: f32, f16, bf16 or q8_0.")
    ] = "f16",
    server: ServerFlag = None,
) -> None:
    """Fetch a model as files: as transformers reads them, or as llama.cpp and Ollama do."""
    if to not in ("hf", "gguf"):
        raise InvalidRequestError(f"--to: {to!r:.40} is not known.", "Known are hf and gguf.")
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidRequestError(f"{folder} is not empty.", "Name a folder that is not there yet.")
    try:
        with connect(server) as client:
            written = _export(client.model_files, model, folder, to, file_type)
    except OSError as error:
        raise InvalidRequestError(f"{folder} can't be written: {error.strerror}.") from error
    output.result(str(written))
    if to == "gguf":
        output.say(f"Open it with llama.cpp, or: ollama create NAME -f {folder / 'Modelfile'}")


def _export(files: ModelFiles, model: str, folder: Path, to: str, file_type: str) -> Path:
    """What was written: the folder, or the GGUF file in it."""
    from tempfile import TemporaryDirectory

    from corral.client.gguf_export import export_gguf
    from corral.client.hf_export import write_chat_template

    folder.mkdir(parents=True, exist_ok=True)
    if to == "hf":
        with _bar("Fetching") as on_bytes:
            downloaded = files.download(model, folder, on_bytes)
        write_chat_template(downloaded)
        return downloaded.folder
    with TemporaryDirectory(prefix=".corral-", dir=folder) as scratch:
        with _bar("Fetching") as on_bytes:
            downloaded = files.download(model, Path(scratch), on_bytes)
        output.say(f"Writing {downloaded.name} as GGUF, {file_type} …")
        return export_gguf(downloaded, folder, file_type)


@app.command(epilog=epilog("models delete"))
def delete(
    model: Annotated[str, typer.Argument(metavar="NAME", help="An imported base model.")],
    yes: YesFlag = False,
    server: ServerFlag = None,
) -> None:
    """Remove an imported base model. Checkpoints go with their job: corral jobs delete."""
    if not yes and not confirmed(f"Delete the base model {model}?"):
        raise typer.Abort
    with connect(server) as client:
        client.model_files.delete(model)
    output.say(f"{model} is gone.")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, with the time that is left; elsewhere nothing is drawn."""
    if not output.is_live():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.stderr_console(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _show_base(model: models_pb2.BaseModel, as_json: bool) -> None:
    from corral.cli.plain import to_plain

    if as_json:
        output.result_json(to_plain(model))
        return
    output.say(f"{model.architecture}, {formatting.size(model.size_bytes)}, from {model.source}.")
    output.result(model.name)


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
            ("loaded", _loaded(model)),
            ("created", f"{_age(model, now)} ago" if model.HasField("created_at") else ""),
        ]
    )


def _row(model: inference_pb2.Model, now: float) -> tuple[str, ...]:
    return (
        model.name,
        str(model.step) if model.job_id else "-",
        formatting.size(model.size_bytes) if model.size_bytes else "-",
        model.template or "-",
        _loaded(model),
        _age(model, now) if model.HasField("created_at") else "-",
    )


def memory_line(memory: inference_pb2.InferenceMemory) -> str:
    """What the server's memory is used for, in a sentence."""
    models, caches, budget = map(formatting.size, (memory.models, memory.caches, memory.budget))
    return f"Memory: {models} of models and {caches} of conversations, of {budget}."


def _loaded(model: inference_pb2.Model) -> str:
    if not model.is_loaded:
        return "no"
    # A base that adapters in memory use as well: without it nothing would be free.
    return formatting.size(model.loaded_bytes) if model.loaded_bytes else "shared"


def _age(model: inference_pb2.Model, now: float) -> str:
    return formatting.age(now - model.created_at.ToNanoseconds() / 1e9)
