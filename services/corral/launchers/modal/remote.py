"""What runs in the container on Modal: one attempt at a job, under `corral.launchers.in_pod`.

`run_job` returns how the run ended, whatever that was, and raises only where the place ended and not
the run: Modal then starts the same call again, which goes on from the newest checkpoint. It ends by
itself, with a checkpoint, once the budget is spent, once another call works for the job, and where
whoever spawned it died before taking note of it.

Needs Corral's own package and torch; modal only for the volume. Knows nothing of home's files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import corral
from corral.launchers.modal.carrying import Carrier
from corral.launchers.modal.gpus import parse_gpus, spread_over
from corral.launchers.modal.inside import MountedVolume, gpu_here
from corral.launchers.modal.limits import Limits
from corral.launchers.modal.order import (
    STATUS_NAME,
    STOPPED,
    SUPERSEDED,
    TIME_UP,
    Exit,
    Order,
    Status,
)
from corral.launchers.stop_file import ask_to_stop, grace_of, is_asked_to_stop
from corral.launchers.torchrun import ENVIRONMENT, torchrun_command
from corral.run import TrainingRun
from corral.volume import Volume

# Modal kills what is left 30 s after it has interrupted a container.
_LEAVE_SECONDS = 20.0
_TICK_SECONDS = 0.05


def run_job(mount: str, order: dict[str, Any]) -> dict[str, Any]:
    """Carry an attempt out on the volume mounted at `mount`; returns the fields of `Exit`."""
    container = _Container(Path(mount), Order.of_json(order))
    try:
        ended = container.carry_out()
    finally:
        container.close()
    return {"exit_code": ended.exit_code, "signal": ended.signal, "reason": ended.reason}


class _Container:
    """One container that works for one attempt."""

    def __init__(self, mount: Path, order: Order) -> None:
        self._mount = mount
        self._order = order
        self._volume = MountedVolume(order.volume)
        self._disk = Path(tempfile.mkdtemp(prefix="corral-"))
        self._carrier = Carrier(Volume(self._disk), Volume(mount), order.job, order.attempt)
        self._choice = gpu_here(parse_gpus(",".join(order.gpus)))
        self._limits = Limits(mount, self._order, self._choice)
        self._reason = ""

    def carry_out(self) -> Exit:
        """The whole of it."""
        if self._limits.is_superseded():
            return Exit(None, None, SUPERSEDED)
        if is_asked_to_stop(self._carrier.remote_run.path):
            return self._end(Exit(None, None, STOPPED))
        self._tell()
        self._volume.commit()
        run_file = self._prepare()
        process = self._start(run_file)
        try:
            self._watch(process)
        except BaseException:
            # Modal takes the container away: preemption, its timeout, a cancelled call.
            self._leave(process)
            raise
        if self._reason == SUPERSEDED:
            return Exit(None, None, SUPERSEDED)
        ended = self._exit(process)
        if self._reason == TIME_UP and ended.exit_code != 0:
            self._carry()
            raise RuntimeError("The container's time is up; the run goes on in the next one.")
        return self._end(ended)

    def close(self) -> None:
        """The disk is the container's, and goes with it; elsewhere it would stay."""
        shutil.rmtree(self._disk, ignore_errors=True)

    # ------------------------------------------------------------ before

    def _prepare(self) -> Path:
        """Everything that the run reads, on the container's disk; returns the run file."""
        run = TrainingRun.model_validate(self._order.run)
        if any(span.attempt == run.attempt for span in self._limits.before):
            # Modal started the call again: it goes on from what it had saved, if it had.
            newest = self._carrier.newest_checkpoint() or run.resume_from
            run = run.model_copy(update={"resume_from": newest})
        run = run.model_copy(update={"spec": spread_over(run.spec, self._choice)})
        self._carrier.fetch(run)
        self._place_model()
        run_file = self._carrier.run.run_file
        run.write(run_file)
        return run_file

    def _place_model(self) -> None:
        """A base model that is a folder at home is found under the same path here."""
        here = Path(self._order.model_folder)
        if self._order.model_folder and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(self._mount / self._order.model_on_volume, target_is_directory=True)

    def _start(self, run_file: Path) -> subprocess.Popen[bytes]:
        order = self._order
        command = [*order.command, str(run_file)] if order.command else self._torchrun(run_file)
        supervised = [
            *(sys.executable, "-m", "corral.launchers.in_pod", str(run_file.parent)),
            *("--processes", str(self._choice.count), "--grace", str(order.stop_seconds)),
            "--",
            *command,
        ]
        source = str(Path(corral.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH", ""))))
        environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": path}
        # A session of its own: an interrupt of the container is for us to pass on, with our grace.
        return subprocess.Popen(
            supervised, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )

    def _torchrun(self, run_file: Path) -> list[str]:
        return torchrun_command(
            run_file,
            name=f"{self._order.job}-a{self._order.attempt}",
            nodes=1,
            processes_per_node=self._choice.count,
            python=sys.executable,
        )

    # ------------------------------------------------------------ while it runs

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Carry and look until the run has ended."""
        look_at = 0.0
        while process.poll() is None:
            if time.monotonic() >= look_at:
                self._volume.reload()
                self._look(process)
                self._carry()
                look_at = time.monotonic() + self._order.look_seconds
            time.sleep(_TICK_SECONDS)

    def _look(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the run to stop where there is a reason to."""
        asked = self._carrier.remote_run.path
        if self._limits.is_superseded():
            self._stop(process, SUPERSEDED, 0.0)
        elif is_asked_to_stop(asked):
            self._stop(process, STOPPED, grace_of(asked, self._order.stop_seconds))
        elif not self._reason and (reason := self._limits.reason_to_end()):
            self._stop(process, reason, self._order.stop_seconds)

    def _stop(self, process: subprocess.Popen[bytes], reason: str, grace: float) -> None:
        """What the supervisor over the run does within the grace period; less may be given later."""
        run = self._carrier.run.path
        if self._reason and grace >= grace_of(run, self._order.stop_seconds):
            return
        self._reason = self._reason or reason
        ask_to_stop(run, grace)
        process.terminate()

    # ------------------------------------------------------------ after

    def _leave(self, process: subprocess.Popen[bytes]) -> None:
        """Save what can be saved before Modal kills this container."""
        self._volume.reload()
        grace = grace_of(self._carrier.remote_run.path, _LEAVE_SECONDS)
        if self._limits.is_superseded():
            grace = 0.0
        ask_to_stop(self._carrier.run.path, min(grace, _LEAVE_SECONDS))
        with suppress(OSError, subprocess.TimeoutExpired):
            process.terminate()
            process.wait(_LEAVE_SECONDS + 1)
        self._carry()

    def _exit(self, process: subprocess.Popen[bytes]) -> Exit:
        try:
            found = json.loads(self._carrier.run.exit_file.read_bytes())
        except (OSError, ValueError):
            # Its supervisor was killed, by the kernel for want of memory say.
            code = process.returncode
            return Exit(code if code >= 0 else None, "SIGKILL" if code < 0 else None, self._reason)
        return Exit(found["exit_code"], found["signal"], self._reason)

    def _end(self, ended: Exit) -> Exit:
        self._carrier.carry(is_over=True)
        self._tell(ended)
        self._volume.commit()
        return ended

    def _carry(self) -> None:
        if self._reason == SUPERSEDED:
            return
        self._carrier.carry(is_over=False)
        self._tell()
        self._volume.commit()

    def _tell(self, ended: Exit | None = None) -> None:
        order, step = self._order, self._carrier.last_step()
        status = Status(order.attempt, order.token, step, self._limits.spans(), ended)
        temporary = self._mount / f".{STATUS_NAME}"
        temporary.write_bytes(status.to_json())
        temporary.replace(self._mount / STATUS_NAME)
