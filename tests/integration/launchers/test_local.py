"""LocalLauncher with real processes: the conformance tests, and what kill -9 can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import launcher as conformance
from tests.conformance import stand_in_run
from tests.conformance.launcher import Runs, described, ended, living, pids, until

from corral.errors import LaunchError, SpecError
from corral.launchers.base import Launcher
from corral.launchers.local import LocalLauncher, torchrun
from corral.launchers.processes import start_time


def stand_in(run_file: Path, processes: int) -> list[str]:
    return [sys.executable, stand_in_run.__file__, str(run_file)]


def new_local_launcher(**arguments: Any) -> LocalLauncher:
    return LocalLauncher(**{"command_builder": stand_in, **arguments})


def supervisor_of(handle: str) -> int:
    return int(json.loads(handle)["pid"])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


class TestLocalLauncher(conformance.LauncherConformance):
    @pytest.fixture
    def new_launcher(self) -> Callable[[], Launcher]:
        return new_local_launcher

    @pytest.mark.parametrize("what", ["poll", "stop", "stop without grace"])
    async def test_what_a_killed_supervisor_left_is_ended(
        self, launcher: Launcher, runs: Runs, what: str
    ) -> None:
        run_file, handle = await runs.working("family")
        kill(supervisor_of(handle))
        await until(lambda: start_time(supervisor_of(handle)) is None)
        assert len(living(run_file)) == stand_in_run.FAMILY
        if what == "poll":
            status = await launcher.poll(handle)
            assert (status.is_running, status.exit_code, status.signal) == (False, None, None)
            assert "supervisor was killed" in status.detail
            assert await launcher.poll(handle) == status
        else:
            await launcher.stop(handle, 0 if "without" in what else conformance.PATIENCE)
        assert living(run_file) == []
        assert not (await launcher.poll(handle)).is_running

    async def test_a_supervisor_that_lost_its_command_ends_the_orphans(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working("family")
        for pid in pids(run_file):
            if parent_of(pid) == supervisor_of(handle):
                kill(pid)
        assert (await ended(launcher, handle)).signal == "SIGKILL"
        assert living(run_file) == []

    async def test_a_run_ends_though_nobody_waits_for_it(self, tmp_path: Path) -> None:
        launcher = new_local_launcher(stop_seconds=0.2)
        runs = Runs(launcher, tmp_path)
        run_file, handle = await runs.working("stubborn")
        os.kill(supervisor_of(handle), signal.SIGTERM)
        assert (await ended(launcher, handle)).signal == "SIGKILL"
        assert living(run_file) == []

    async def test_who_stops_a_run_may_give_it_longer_than_was_said_at_its_start(
        self, tmp_path: Path
    ) -> None:
        launcher = new_local_launcher(stop_seconds=0)
        run_file, handle = await Runs(launcher, tmp_path).working("save")
        stopping = asyncio.create_task(launcher.stop(handle, conformance.PATIENCE))
        await until((run_file.parent / "stopped").exists)
        (run_file.parent / "saved").touch()
        await stopping
        assert (await launcher.poll(handle)).exit_code == 75

    async def test_a_run_says_itself_how_long_it_may_take_to_end(self, tmp_path: Path) -> None:
        launcher = new_local_launcher(stop_seconds=conformance.PATIENCE)
        runs = Runs(launcher, tmp_path)
        run_file = runs.file(do="stubborn")
        run = described(run_file).model_copy(update={"stop_seconds": 0.2})
        handle = await launcher.start(run_file, run)
        await until(lambda: pids(run_file))
        os.kill(supervisor_of(handle), signal.SIGTERM)
        assert (await ended(launcher, handle)).signal == "SIGKILL"

    async def test_a_run_that_saves_is_not_asked_to_stop_again(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        # On a second SIGTERM torchrun breaks off its orderly stop.
        run_file, handle = await runs.working("save")
        os.kill(supervisor_of(handle), signal.SIGTERM)
        await until((run_file.parent / "stopped").exists)
        os.kill(supervisor_of(handle), signal.SIGTERM)
        await until(lambda: not has_pending_signals(supervisor_of(handle)))
        (run_file.parent / "saved").touch()
        assert (await ended(launcher, handle)).exit_code == 75

    async def test_a_run_outlives_the_process_that_started_it(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="work")
        code = (
            "import asyncio, os, pathlib, sys\n"
            "from tests.integration.launchers.test_local import described, new_local_launcher\n"
            "run_file = pathlib.Path(sys.argv[1])\n"
            "asyncio.run(new_local_launcher().start(run_file, described(run_file)))\n"
            "os.kill(os.getpid(), 9)\n"
        )
        root = Path(__file__).parents[3]
        starter = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(run_file)], cwd=root
        )
        assert starter.returncode == -signal.SIGKILL
        handle = await runs.start(run_file)
        await until(lambda: pids(run_file))
        assert (await launcher.poll(handle)).is_running
        assert len(pids(run_file)) == 1

    async def test_a_starter_that_died_before_it_got_the_handle_left_a_run(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="work")
        reader, writer = os.pipe()
        # Nobody will ever read what the supervisor says.
        os.close(reader)
        supervisor = [sys.executable, "-m", "corral.launchers.supervise", str(run_file.parent)]
        await asyncio.to_thread(
            subprocess.run,
            [*supervisor, "--mark", "the-mark", "--grace", "5", "--", *stand_in(run_file, 1)],
            stdout=writer,
            env={**os.environ, "CORRAL_RUN_MARK": "the-mark", "OMP_NUM_THREADS": "1"},
            check=True,
        )
        os.close(writer)
        handle = await runs.start(run_file)
        assert json.loads(handle)["mark"] == "the-mark"
        await until(lambda: pids(run_file))
        assert (await launcher.poll(handle)).is_running

    async def test_a_later_attempt_ends_what_an_earlier_one_left(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        # Ten is later than two, though not as text.
        old = runs.file("job-x", 2, do="family")
        old_handle = await runs.start(old)
        await until(lambda: len(pids(old)) == stand_in_run.FAMILY)
        new_handle = await runs.start(runs.file("job-x", 10, do="work"))
        assert living(old) == []
        status = await launcher.poll(old_handle)
        assert (status.is_running, status.signal) == (False, "SIGKILL")
        await runs.start(runs.file("job-x", 9, do="exit", code=0))
        assert (await launcher.poll(new_handle)).is_running

    async def test_a_recycled_pid_is_not_taken_for_the_run(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="exit", code=4)
        handle = await runs.start(run_file)
        await ended(launcher, handle)
        # As if this test's own process had been given the supervisor's pid.
        recycled = json.dumps({**json.loads(handle), "pid": os.getpid()})
        assert (await launcher.poll(recycled)).exit_code == 4
        (run_file.parent / "exit.json").unlink()
        assert not (await launcher.poll(recycled)).is_running
        await launcher.stop(recycled, 1)

    async def test_a_run_of_another_machine_is_left_alone(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        foreign = json.dumps({**json.loads(handle), "machine": "another"})
        status = await launcher.poll(foreign)
        assert not status.is_running
        assert "another machine" in status.detail
        await launcher.stop(foreign, 0)
        assert len(living(run_file)) == 1
        assert (await launcher.poll(handle)).is_running

    async def test_a_run_whose_folder_is_gone_has_ended(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="exit", code=0)
        handle = await runs.start(run_file)
        await ended(launcher, handle)
        for path in sorted(run_file.parent.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        run_file.parent.rmdir()
        assert not (await launcher.poll(handle)).is_running
        await launcher.stop(handle, 1)

    @pytest.mark.parametrize(
        "handle", ["", "garbage", "{}", "[]", "7", '{"kind": "local"}', '{"kind": "modal"}']
    )
    async def test_a_string_that_is_no_handle_is_refused(
        self, launcher: Launcher, handle: str
    ) -> None:
        with pytest.raises(LaunchError, match="not a handle"):
            await launcher.poll(handle)
        with pytest.raises(LaunchError, match="not a handle"):
            await launcher.stop(handle, 1)

    async def test_a_run_without_a_folder_can_not_be_started(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        run_file = tmp_path / "job-1" / "a1" / "run.json"
        with pytest.raises(LaunchError, match="could not be started"):
            await launcher.start(run_file, described(run_file))

    async def test_a_python_that_is_not_there_can_not_start_a_run(self, runs: Runs) -> None:
        run_file = runs.file(do="work")
        with pytest.raises(LaunchError, match="could not be started"):
            await new_local_launcher(python="/no/python").start(run_file, described(run_file))

    async def test_a_supervisor_that_can_not_be_run_is_a_launch_error(self, runs: Runs) -> None:
        run_file = runs.file(do="work")
        with pytest.raises(LaunchError, match=r"log\.txt"):
            await new_local_launcher(python="false").start(run_file, described(run_file))

    async def test_more_processes_than_the_machine_takes_are_refused(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="work")
        with pytest.raises(SpecError, match="processes: 1000 is more"):
            await launcher.start(run_file, described(run_file, processes=1000))

    async def test_a_run_on_several_nodes_is_refused(self, launcher: Launcher, runs: Runs) -> None:
        run_file = runs.file(do="work")
        with pytest.raises(SpecError, match=r"not 2\..* CORRAL_LAUNCHER=kubernetes"):
            await launcher.start(run_file, described(run_file, processes=2, nodes=2))
        assert pids(run_file) == []

    async def test_a_command_that_is_not_there_ends_and_says_so(self, runs: Runs) -> None:
        launcher = new_local_launcher(command_builder=lambda run_file, processes: ["/no/command"])
        run_file = runs.file(do="work")
        handle = await launcher.start(run_file, described(run_file))
        assert (await ended(launcher, handle)).exit_code == 127
        assert "/no/command" in (run_file.parent / "log.txt").read_text()

    @pytest.mark.parametrize(("given", "expected"), [({}, None), ({"OMP_NUM_THREADS": "3"}, "3")])
    async def test_processes_share_the_cores_unless_told_otherwise(
        self, runs: Runs, given: dict[str, str], expected: str | None
    ) -> None:
        base = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        launcher = new_local_launcher(env={**base, **given})
        run_file = runs.file(do="exit", code=0)
        await ended(launcher, await launcher.start(run_file, described(run_file, processes=2)))
        fair = str(max(1, len(os.sched_getaffinity(0)) // 2))
        assert f"OMP_NUM_THREADS={expected or fair}\n" in (run_file.parent / "log.txt").read_text()


RANK = """
import os, pathlib, signal, sys, time
from torch import distributed, ones
distributed.init_process_group("gloo")
total = ones(1)
distributed.all_reduce(total)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
folder = pathlib.Path(sys.argv[1]) / "pids"
folder.mkdir(exist_ok=True)
(folder / str(os.getpid())).write_text(str(total.item()))
while True:
    signal.pause()
"""


@pytest.mark.torch
class TestTorchrun:
    """The real torchrun, with a script in place of the training that only joins the other rank."""

    @pytest.fixture
    def launcher(self, tmp_path: Path) -> LocalLauncher:
        script = tmp_path / "rank.py"
        script.write_text(RANK)

        def command(run_file: Path, processes: int) -> list[str]:
            built = torchrun(sys.executable)(run_file, processes)
            assert built[-3:] == ["-m", "corral.training", str(run_file)]
            return [*built[:-3], str(script), str(run_file.parent)]

        return LocalLauncher(command_builder=command)

    @pytest.mark.parametrize("victim", ["nobody", "supervisor", "torchrun", "a rank"])
    async def test_no_rank_is_left_whoever_is_killed(
        self, launcher: LocalLauncher, tmp_path: Path, victim: str
    ) -> None:
        runs = Runs(launcher, tmp_path / "runs")
        run_file = runs.file()
        handle = await runs.start(run_file, 2)
        said = run_file.parent / "pids"
        await until(
            lambda: [(said / str(pid)).read_text() for pid in pids(run_file)] == ["2.0"] * 2
        )
        ranks = pids(run_file)
        supervisor, agent = supervisor_of(handle), parent_of(ranks[0])
        assert parent_of(agent) == supervisor
        if victim == "nobody":
            await launcher.stop(handle, conformance.PATIENCE)
        else:
            kill({"supervisor": supervisor, "torchrun": agent, "a rank": ranks[0]}[victim])
            await ended(launcher, handle)
        assert living(run_file) == []
        assert start_time(agent) is None
        assert not (await launcher.poll(handle)).is_running


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def has_pending_signals(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def test_the_supervisor_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, corral.launchers.supervise\n"
        "print([name for name in sys.modules if name.partition('.')[0]\n"
        "       in ('pydantic', 'pydantic_core', 'torch', 'redis', 'grpc', 'asyncio')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
