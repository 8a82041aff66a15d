"""The first process of a training pod: stands over one node's share of a run, as supervise does here.

    python -m corral.launchers.in_pod RUN_FOLDER --rank R --processes P --grace S -- COMMAND…

The command's output goes to the pod's own and to the run's log (log.txt for the first node,
log-<rank>.txt for the others). SIGTERM is passed on; SIGKILL follows after the grace period. A pod's
own can't be changed by those who may only delete its Job: whoever stops the run writes another into
stop.json, which also asks the run to end, so that a longer one can pass before the Job is deleted.
The first node writes exit.json, which outlives the pod.

A pod that finds that its place in the attempt was taken before ends at once: Kubernetes promises at
least one pod, not at most one. The exit code is the one that the run's last event stands for, since
torchrun swallows those of its processes and the Job's podFailurePolicy tells them apart.

Knows nothing of the cluster.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from corral.launchers.processes import MARK_VARIABLE
from corral.launchers.stop_file import grace_of, is_asked_to_stop
from corral.launchers.supervise import (
    LOG_NAME,
    Stop,
    adopt_orphans,
    create,
    end_the_rest,
    exit_of,
    run_command,
    write_exit,
)

POD_NAME = "pod.json"

_RAN_BEFORE = 1
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_PUMP_BYTES = 64 * 1024
_LOOK_FOR_STOP_SECONDS = 1.0
# Everything that could write has been killed by then; a pipe that is still open is not waited for.
_LAST_OUTPUT_SECONDS = 5.0


def main() -> int:
    """Returns the pod's exit code."""
    arguments = _arguments()
    run: Path = arguments.run
    stop = Stop(lambda: grace_of(run, arguments.grace))
    adopt_orphans()
    if not create(run / _named(POD_NAME, arguments.rank), {"pod": socket.gethostname()}):
        sys.stderr.write("This node of this attempt has run before; it does not run again.\n")
        return _RAN_BEFORE
    if is_asked_to_stop(run):
        stop.ask()
    mark = f"{run.parent.name}-{run.name}-{secrets.token_hex(8)}"
    os.environ[MARK_VARIABLE] = mark
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // arguments.processes)))
    with _StopWatch(run), _Log(run / _named(LOG_NAME, arguments.rank)) as log:
        status = run_command(arguments.command, stop, log.descriptor)
        end_the_rest(mark)
    if arguments.rank == 0:
        write_exit(run, exit_of(status))
    return _exit_code(status, run)


def cores(cpu_quota: Path = _CPU_QUOTA) -> int:
    """Cores that this container may use: a CPU limit is a quota, which the affinity does not show."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        # "max 100000" without a limit, else microseconds of each period.
        quota, period = cpu_quota.read_text().split()
        available = min(available, max(1, int(quota) // int(period)))
    return available


class _StopWatch:
    """Looks for stop.json while the command runs, and then does what SIGTERM does."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        # Before the interpreter gives up its handlers: the signal would end this process then.
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_FOR_STOP_SECONDS):
            if is_asked_to_stop(self._run):
                # To the main thread, which waits for the command: only there handlers run.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                return


class _Log:
    """A pipe whose content goes into the log on the volume and to our own output."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._reader, self.descriptor = os.pipe()
        self._pump = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> _Log:
        self._pump.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        self._pump.join(_LAST_OUTPUT_SECONDS)

    def _copy(self) -> None:
        while chunk := os.read(self._reader, _PUMP_BYTES):
            # A full disk loses lines of the log; a pipe that nobody reads would stop the training.
            with suppress(OSError):
                self._file.write(chunk)
            with suppress(OSError):
                os.write(sys.stdout.fileno(), chunk)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="corral.launchers.in_pod")
    parser.add_argument("run", type=Path)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _named(name: str, rank: int) -> str:
    """`log.txt` for the first node, `log-1.txt` for the second."""
    path = Path(name)
    return name if rank == 0 else f"{path.stem}-{rank}{path.suffix}"


def _exit_code(status: int, run: Path) -> int:
    if status == 0:
        return 0
    # Only now: before pydantic is loaded, SIGTERM would find nobody to take it, and the first
    # process of a container ignores what it does not take.
    from corral.run import EXIT_REFUSED, EXIT_STOPPED

    outcome = _outcome(run)
    if outcome in ("stopped", "failed"):
        return EXIT_STOPPED if outcome == "stopped" else EXIT_REFUSED
    return status if status > 0 else 128 - status


def _outcome(run: Path) -> str:
    from corral.run import Ended, LineTail, parse_events
    from corral.volume import RunFolder

    tail = LineTail(RunFolder(run).events)
    last = ""
    while lines := tail.new_lines():
        for event in parse_events(lines):
            last = event.outcome if isinstance(event, Ended) else ""
    return last


if __name__ == "__main__":
    sys.exit(main())
