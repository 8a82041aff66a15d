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
from corral.cli.price import show_price
from corral.cli.sending import DataArgument, dataset_of
from corral.cli.spec_flags import given, with_spec_flags
from corral.errors import DatasetError

if TYPE_CHECKING:
    from corral.client.connection import Connection
    from corral.v1 import trainer_pb2

PROBLEMS_SHOWN = 10


@with_spec_flags
def train(
    file: DataArgument,
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
    from corral.client.arguments import checked_spec
    from corral.spec import parse_spec

    spec = dict(fields)
    given_template = {name: spec.pop(name, None) for name in ("template", "preamble")}
    spec = checked_spec(spec | template_fields(**given_template))
    if spec.get("backend") == "modal":
        from corral.launchers.modal.gpus import gpus_of

        gpus_of(parse_spec(spec))
    return spec


def submit(client: Connection, file: Path, spec: dict[str, Any]) -> trainer_pb2.TrainingJob:
    """Upload the file and queue the job, telling how that goes on stderr.

    Raises DatasetError where the report has errors, for which no job would be queued.
    """
    import secrets

    dataset = dataset_of(client, file)
    check_again = f"corral data check {shlex.quote(str(file))}"
    _show_report(dataset, check_again)
    if any(sent.severity == sent.SEVERITY_ERROR for sent in dataset.report.problems):
        raise DatasetError(
            f"{file} can't be trained on: the errors above.",
            f"Correct them; `{check_again}` finds them too.",
        )
    show_price(client, dataset.id, spec)
    # One key for this invocation: a creation that is sent again makes no second job.
    job = client.create_job(dataset.id, spec, secrets.token_hex(16))
    batch = job.spec
    output.say(
        f"Effective batch: {batch.batch_size} x {batch.gradient_accumulation_steps} accumulated"
        f" x {formatting.count(batch.processes, 'process', 'processes')}"
        f" = {formatting.count(job.effective_batch_size, 'example')} a step."
    )
    return job


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
