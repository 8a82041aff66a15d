"""`corral jobs`: list, show, watch, steer and delete training jobs.

Knows nothing of how jobs are run or stored; the server does.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from corral import formatting
from corral.cli import output
from corral.cli.completing import complete_jobs
from corral.cli.examples import epilog
from corral.cli.flags import JsonFlag, ServerFlag, YesFlag, confirmed, connect
from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.client.connection import Connection
    from corral.v1 import trainer_pb2

INTERRUPTED = 130

app = typer.Typer(help="Training jobs.", no_args_is_help=True)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=complete_jobs)
]
LogFlag = Annotated[bool, typer.Option("--log", help="Show the run's log too.")]


@app.command("list", epilog=epilog("jobs list"))
def list_jobs(
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only jobs in this state; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    from corral.cli.job_output import job_table
    from corral.cli.plain import to_plain
    from corral.client.arguments import job_state

    states = [job_state(name) for name in state or ()]
    with connect(server) as client:
        jobs = client.list_jobs(limit, states)
    if as_json:
        output.result_json([to_plain(job) for job in jobs])
    elif jobs:
        output.result(job_table(jobs, time.time()))
    else:
        output.say("No jobs. Start one: corral train FILE --model MODEL")


@app.command(epilog=epilog("jobs show"))
def show(job: JobArgument, server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """Show one job: its progress, its checkpoints, why it failed."""
    from corral.cli.job_output import job_details
    from corral.cli.plain import to_plain

    with connect(server) as client:
        found = client.get_job(job)
    if as_json:
        output.result_json(to_plain(found))
    else:
        output.result(job_details(found, time.time()))


@app.command(epilog=epilog("jobs watch"))
def watch(
    job: JobArgument,
    after: Annotated[int, typer.Option(min=0, help="Begin behind this event.")] = 0,
    with_log: LogFlag = False,
    server: ServerFlag = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as a line of JSON.")
    ] = False,
) -> None:
    """Show a job as it runs, from its first event. Exits 0 only if it succeeds.

    Ctrl-C leaves the job running.
    """
    with connect(server) as client:
        if as_json:
            _print_events(client, job, after)
        else:
            watch_to_end(client, job, after=after, with_log=with_log)


@app.command(epilog=epilog("jobs cancel"))
def cancel(job: JobArgument, server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """End a job: a queued one at once, a running one within one step."""
    with connect(server) as client:
        _show_state(client.cancel_job(job), as_json=as_json)


@app.command(epilog=epilog("jobs pause"))
def pause(job: JobArgument, server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """Let a job stop with a checkpoint and wait; `corral jobs resume` goes on from there."""
    with connect(server) as client:
        _show_state(client.pause_job(job), as_json=as_json)


@app.command(epilog=epilog("jobs resume"))
def resume(job: JobArgument, server: ServerFlag = None, as_json: JsonFlag = False) -> None:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    with connect(server) as client:
        _show_state(client.resume_job(job), as_json=as_json)


@app.command(epilog=epilog("jobs delete"))
def delete(
    jobs: Annotated[
        list[str],
        typer.Argument(metavar="JOB...", help="Ids of ended jobs.", autocompletion=complete_jobs),
    ],
    yes: YesFlag = False,
    server: ServerFlag = None,
) -> None:
    """Remove ended jobs with their checkpoints and logs."""
    what = jobs[0] if len(jobs) == 1 else formatting.count(len(jobs), "job")
    if not yes and not confirmed(f"Delete {what} with all checkpoints and logs?"):
        output.say("Nothing was deleted.")
        raise typer.Exit(1)
    with connect(server) as client:
        for job in jobs:
            client.delete_job(job)
            output.result(job)


def watch_to_end(
    client: Connection,
    job_id: str,
    *,
    after: int = 0,
    with_log: bool = False,
    as_json: bool = False,
) -> None:
    """Show a job until its end. Raises the error of a job that did not succeed.

    Ctrl-C leaves the job alone, says so, and exits with 130.
    """
    from corral.cli.job_output import ended
    from corral.cli.plain import to_plain
    from corral.cli.watching import best_view, follow

    try:
        with best_view() as view:
            events = client.watch_job(
                job_id, after, lambda lost: view.line(f"{lost.message} Trying again...")
            )
            follow(events, view, with_log=with_log)
        job = client.get_job(job_id)
    except KeyboardInterrupt:
        output.say(f"\nNo longer watching; job {job_id} goes on.")
        output.say(f"  Watch it again: corral jobs watch {job_id}")
        output.say(f"  End it:         corral jobs cancel {job_id}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        output.result_json(to_plain(job))
    ended(job)


def _print_events(client: Connection, job_id: str, after: int) -> None:
    from corral.cli.job_output import ended
    from corral.cli.plain import to_plain

    def lost(error: CorralError) -> None:
        output.say(f"{error.message} Trying again...")

    for event in client.watch_job(job_id, after, lost):
        output.result(json.dumps(to_plain(event), ensure_ascii=False))
    ended(client.get_job(job_id))


def _show_state(job: trainer_pb2.TrainingJob, *, as_json: bool) -> None:
    from corral.cli.plain import to_plain
    from corral.cli.watching import state_name

    if as_json:
        output.result_json(to_plain(job))
    else:
        output.result(f"{job.id}  {state_name(job.state)}")
