"""The process that stands over one run on this machine, and leaves nothing of it behind.

    python -m corral.launchers.supervise RUN_FOLDER --mark M --grace S -- COMMAND…

It detaches itself, writes handle.json (a second one for the same folder finds it there, and ends),
prints the handle, and runs the command with its output going to log.txt. SIGTERM is passed on to
the command, SIGKILL follows after the grace period, or the one that stop.json names. When the command
has ended, every process that it left is killed, and then exit.json says how it ended: with an
exit.json, nothing is left.

Standard library only, so that it starts at once. Knows nothing of training or of jobs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from corral.launchers import processes
from corral.launchers.stop_file import grace_of

HANDLE_NAME = "handle.json"
EXIT_NAME = "exit.json"
LOG_NAME = "log.txt"

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_TICK_SECONDS = 0.05
_LOOK_AGAIN_SECONDS = 0.005
_COULD_NOT_START = 127


def main() -> None:
    """Detach, then supervise. The process that was started ends as soon as the handle is out."""
    arguments = _arguments()
    if os.fork():
        # Without the usual clean-up, which is the other process' affair.
        os._exit(0)
    os.setsid()
    # From before the handle is known: a stop may come as soon as it is.
    stop = Stop(lambda: grace_of(arguments.run, arguments.grace))
    adopt_orphans()
    is_ours = _take(arguments.run, arguments.mark)
    _say((arguments.run / HANDLE_NAME).read_text())
    if not is_ours:
        return
    _send_output_to(arguments.run / LOG_NAME)
    status = run_command(arguments.command, stop)
    end_the_rest(arguments.mark)
    write_exit(arguments.run, exit_of(status))


def exit_of(status: int) -> dict[str, Any]:
    """exit.json's content, from subprocess' return code, in which -n stands for signal n."""
    if status < 0:
        return {"exit_code": None, "signal": signal.Signals(-status).name}
    return {"exit_code": status, "signal": None}


def write_exit(run: Path, content: dict[str, Any]) -> None:
    """Write exit.json, whole, unless there is one."""
    create(run / EXIT_NAME, content)


class Stop:
    """Passes SIGTERM on to the command, and kills it when it takes too long.

    `grace` says how many seconds the command may take; it is asked again and again, since whoever
    stops a run may lose patience. 0 kills at once.
    """

    def __init__(self, grace: Callable[[], float]) -> None:
        self._grace = grace
        self._command: subprocess.Popen[bytes] | None = None
        self._asked_at: float | None = None
        self._is_passed_on = False
        signal.signal(signal.SIGTERM, lambda signum, frame: self.ask())
        signal.signal(signal.SIGALRM, lambda signum, frame: self._force_when_due())

    def ask(self) -> None:
        """What SIGTERM does."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        self._pass_on()

    def watch_over(self, command: subprocess.Popen[bytes]) -> None:
        """This is the command to stop, at once if a stop was asked for before."""
        self._command = command
        if self._asked_at is not None:
            self._pass_on()

    def rest(self) -> None:
        """The command has ended."""
        # Else the alarm would end this process, once the interpreter gives up its handlers.
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._command = None

    def _pass_on(self) -> None:
        # Once only: a second SIGTERM would break off torchrun's own orderly stop.
        if self._command is not None and not self._is_passed_on:
            self._is_passed_on = True
            if self._grace() > 0:
                self._command.terminate()
            signal.setitimer(signal.ITIMER_REAL, 1e-3, _TICK_SECONDS)

    def _force_when_due(self) -> None:
        if self._command is None or self._asked_at is None:
            return
        if time.monotonic() - self._asked_at >= self._grace():
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._command.kill()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="corral.launchers.supervise")
    parser.add_argument("run", type=Path)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def adopt_orphans() -> None:
    """Let every descendant that loses its parent become a child of this process."""
    # A rank whose torchrun was killed becomes a child of ours instead of init's, and so is reaped
    # when it is killed. Linux only; elsewhere init does it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _take(run: Path, mark: str) -> bool:
    """Write the handle; False where another supervisor has done so for the same run."""
    handle = {
        "kind": "local",
        "pid": os.getpid(),
        "start_time": processes.start_time(os.getpid()),
        "machine": processes.this_machine(),
        "mark": mark,
        "run": str(run),
    }
    return create(run / HANDLE_NAME, handle)


def create(path: Path, content: dict[str, Any]) -> bool:
    """Write a file that appears whole, on the disk, and only if there was none of that name."""
    # Not the process id: in a pod, everyone's is 1.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _say(line: str) -> None:
    # Whoever started us may be dead already; the run goes on, and its handle is in the folder.
    with suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _send_output_to(log: Path) -> None:
    # Also closes the pipe to whoever started us: its end tells that the handle is complete.
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def run_command(command: list[str], stop: Stop, output: int | None = None) -> int:
    """Run a command to its end, its output going to that file descriptor or to our own.

    Returns subprocess' code, in which -n stands for signal n.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    except OSError as error:
        _say(f"{command[0]} can't be started: {error.strerror}")
        return _COULD_NOT_START
    stop.watch_over(process)
    status = process.wait()
    stop.rest()
    return status


def end_the_rest(mark: str) -> None:
    """Kill every process that the run has left. Returns when none lives."""
    own = os.getpid()
    # Whoever hides its environment from us, or is in the middle of exec, is or becomes our child.
    killing = processes.Killing(lambda: processes.of_run(mark, own) | processes.children(own))
    while not killing.is_done():
        _reap()
        time.sleep(_LOOK_AGAIN_SECONDS)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
