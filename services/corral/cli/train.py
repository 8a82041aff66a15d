"""`corral train`: upload a file, queue a job, and watch it.

Knows nothing of training; what may be asked of a run stands in corral.spec.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import formatting
from corral.cli import output
from corral.cli.flags import JsonFlag, ServerFlag, connect
from corral.cli.spec_flags import given, with_spec_flags
from corral.errors import DatasetError

if TYPE_CHECKING:
    from corral.client.connection import Connection
    from corral.v1 import trainer_pb2

PROBLEMS_SHOWN = 10


@with_spec_flags
def train(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Alpaca JSON, JSONL, prompt/completion or messages."),
    ],
    server: ServerFlag = None,
    watch: Annotated[
        bool | None,
        typer.Option(
            "--watch/--no-watch", help="Show the run until it ends. Default: on a terminal."
        ),
    ] = None,
    with_log: Annotated[bool, typer.Option("--log", help="Show the run's log too.")] = False,
    as_json: JsonFlag = False,
    **fields: Any,
) -> None:
    """Train a model on FILE: uploads it, queues a job, prints the job's id.

    Leaving a watched job with Ctrl-C does not stop it.
    """
    from corral.cli.jobs import watch_to_end
    from corral.cli.plain import to_plain

    spec = spec_of(given(fields))
    if watch is None:
        watch = sys.stdout.isatty() and sys.stderr.isatty()
    with connect(server) as client:
        job = submit(client, file, spec)
        if not as_json:
            output.result(job.id)
        elif not watch:
            output.result_json(to_plain(job))
        if watch:
            watch_to_end(client, job.id, with_log=with_log, as_json=as_json)
        else:
            output.say(f"Watch it: corral jobs watch {job.id}")


def spec_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The spec's fields to send for the flags that were given: files read, paths absolute.

    Raises SpecError or TemplateError before anything is uploaded.
    """
    from corral.cli.options import template_fields
    from corral.spec import parse_spec

    spec = dict(fields)
    given_template = {name: spec.pop(name, None) for name in ("template", "preamble")}
    spec |= given(template_fields(**given_template))
    if spec.get("model", "").startswith(("/", "./", "../", "~")):
        # The server's working directory is another one.
        spec["model"] = str(Path(spec["model"]).expanduser().resolve())
    parsed = parse_spec(spec)
    if parsed.backend == "modal":
        from corral.launchers.modal.gpus import gpus_of

        gpus_of(parsed)
    return spec


def submit(client: Connection, file: Path, spec: dict[str, Any]) -> trainer_pb2.TrainingJob:
    """Upload the file and queue the job, telling how that goes on stderr.

    Raises DatasetError where the report has errors, for which no job would be queued.
    """
    import secrets

    dataset = upload(client, file)
    check_again = f"corral data check {shlex.quote(str(file))}"
    _show_report(dataset, check_again)
    if any(sent.severity == sent.SEVERITY_ERROR for sent in dataset.report.problems):
        raise DatasetError(
            f"{file} can't be trained on: the errors above.",
            f"Correct them; `{check_again}` finds them too.",
        )
    _show_price(spec)
    # One key for this invocation: a creation that is sent again makes no second job.
    job = client.create_job(dataset.id, spec, secrets.token_hex(16))
    batch = job.spec
    output.say(
        f"Effective batch: {batch.batch_size} x {batch.gradient_accumulation_steps} accumulated"
        f" x {formatting.count(batch.processes, 'process', 'processes')}"
        f" = {formatting.count(job.effective_batch_size, 'example')} a step."
    )
    return job


def upload(client: Connection, file: Path) -> trainer_pb2.Dataset:
    """Send a file, with a bar on a terminal. Raises DatasetError where it can't be read."""
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "does not exist"
        raise DatasetError(f"{file} {kind}.", "Name a JSON or JSONL file.")
    if not output.is_live():
        return client.upload_dataset(file)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("Uploading"), BarColumn(bar_width=24), DownloadColumn(binary_units=True))
    with Progress(*columns, console=output.stderr_console(), transient=True) as bar:
        task = bar.add_task("", total=file.stat().st_size)
        return client.upload_dataset(file, lambda done, total: bar.update(task, completed=done))


def _show_report(dataset: trainer_pb2.Dataset, check_again: str) -> None:
    from corral.cli.report_output import problem_lines, problem_of

    report = dataset.report
    rows = formatting.count(report.rows, "row")
    output.say(
        f"Data set: {dataset.filename}, {formatting.size(dataset.size_bytes)}, {rows} "
        f"({dataset.format}), {formatting.count(report.problem_count, 'problem')}."
    )
    problems = [problem_of(sent) for sent in report.problems]
    for line in problem_lines(problems, report.problem_count, PROBLEMS_SHOWN, check_again):
        output.say(f"  {line}")


def _show_price(spec: dict[str, Any]) -> None:
    """What an hour costs on Modal over the GPUs that the run may get, before anything starts."""
    if spec.get("backend") != "modal":
        return
    from corral.launchers.modal.gpus import gpus_of
    from corral.launchers.modal.prices import TABLE, Machine, dollars, hourly_range
    from corral.settings import Settings
    from corral.spec import parse_spec

    parsed, settings = parse_spec(spec), Settings()
    choices = gpus_of(parsed)
    machine = Machine(settings.modal_cpu, settings.modal_memory_mib)
    price = hourly_range(choices, machine)
    asked = ", else ".join(map(str, choices))
    if price is None:
        output.say(f"Modal: {asked}. Its price is not known here; see modal.com/pricing.")
    else:
        output.say(f"Modal: {asked}: {price} an hour ({TABLE.source}); waiting costs nothing.")
    if parsed.max_cost is not None:
        output.say(f"It ends with a checkpoint once it has cost {dollars(parsed.max_cost)}.")
