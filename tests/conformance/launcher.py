"""What every Launcher does. A subclass brings the fixture `new_launcher`, which builds launchers that
run tests/conformance/stand_in_run.py on the run file in place of torchrun.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.stand_in_run import FAMILY

from corral.launchers.base import Launcher, RunStatus
from corral.launchers.processes import start_time
from corral.run import TrainingRun
from corral.spec import TrainingSpec

NewLauncher = Callable[[], Launcher]

# For what must happen: only a failing test waits as long.
PATIENCE = 60.0


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def ended(launcher: Launcher, handle: str) -> RunStatus:
    """The status of a run that ends by itself."""
    deadline = time.monotonic() + PATIENCE
    while (status := await launcher.poll(handle)).is_running:
        assert time.monotonic() < deadline, "the run did not end in time"
        await asyncio.sleep(0.005)
    return status


def pids(run_file: Path) -> list[int]:
    """Every process of the run so far, dead ones too."""
    folder = run_file.parent / "pids"
    return [int(path.name) for path in folder.iterdir()] if folder.exists() else []


def living(run_file: Path) -> list[int]:
    """The processes of the run that live."""
    return [pid for pid in pids(run_file) if start_time(pid) is not None]


def described(run_file: Path, **spec: Any) -> TrainingRun:
    """What a real run.json in <job>/a<attempt>/ would say; these say what to do instead."""
    return TrainingRun(
        job_id=run_file.parent.parent.name,
        attempt=int(run_file.parent.name.removeprefix("a")),
        dataset_id="d" * 64,
        spec=TrainingSpec(**spec),
    )


class Runs:
    """Makes run files, and remembers the handles so that no test leaves a process."""

    def __init__(self, launcher: Launcher, root: Path) -> None:
        self._launcher = launcher
        self._root = root
        self._jobs = 0
        self.handles: list[str] = []

    def file(self, job: str = "", attempt: int = 1, **asked: Any) -> Path:
        """A run.json that asks for something, see stand_in_run."""
        self._jobs += 1
        folder = self._root / (job or f"job-{self._jobs}") / f"a{attempt}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(asked))
        return folder / "run.json"

    async def start(self, run_file: Path, processes: int = 1) -> str:
        handle = await self._launcher.start(run_file, described(run_file, processes=processes))
        self.handles.append(handle)
        return handle

    async def working(self, do: str = "work") -> tuple[Path, str]:
        """A run that has begun and goes on."""
        run_file = self.file(do=do)
        handle = await self.start(run_file)
        expected = FAMILY if do == "family" else 1
        await until(lambda: len(pids(run_file)) == expected)
        return run_file, handle


class LauncherConformance:
    """The tests."""

    @pytest.fixture
    def launcher(self, new_launcher: NewLauncher) -> Launcher:
        return new_launcher()

    @pytest.fixture
    async def runs(self, launcher: Launcher, tmp_path: Path) -> AsyncIterator[Runs]:
        runs = Runs(launcher, tmp_path / "runs")
        yield runs
        for handle in runs.handles:
            await launcher.stop(handle, 0)

    async def test_a_run_ends_with_its_exit_code(self, launcher: Launcher, runs: Runs) -> None:
        for code in (0, 3, 75):
            handle = await runs.start(runs.file(do="exit", code=code))
            assert await ended(launcher, handle) == RunStatus(is_running=False, exit_code=code)

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
    async def test_a_run_that_died_names_the_signal(
        self, launcher: Launcher, runs: Runs, name: str
    ) -> None:
        handle = await runs.start(runs.file(do="die", signal=name))
        assert await ended(launcher, handle) == RunStatus(is_running=False, signal=name)

    async def test_a_run_is_running_while_it_works(self, launcher: Launcher, runs: Runs) -> None:
        _, handle = await runs.working()
        assert await launcher.poll(handle) == RunStatus(is_running=True)

    async def test_what_a_run_prints_is_kept(self, launcher: Launcher, runs: Runs) -> None:
        run_file = runs.file(do="exit", code=0)
        await ended(launcher, await runs.start(run_file))
        log = (run_file.parent / "log.txt").read_text()
        assert "doing exit" in log
        assert "and this is an error" in log

    async def test_a_stopped_run_may_save_and_says_its_code(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        await launcher.stop(handle, PATIENCE)
        assert await launcher.poll(handle) == RunStatus(is_running=False, exit_code=75)
        assert (run_file.parent / "stopped").exists()
        assert living(run_file) == []

    async def test_a_run_that_ignores_the_request_is_killed(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working("stubborn")
        await launcher.stop(handle, 0.2)
        assert living(run_file) == []
        assert await launcher.poll(handle) == RunStatus(is_running=False, signal="SIGKILL")

    async def test_without_grace_a_run_is_killed_at_once(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        await launcher.stop(handle, 0)
        assert living(run_file) == []
        assert not (run_file.parent / "stopped").exists()
        assert not (await launcher.poll(handle)).is_running

    async def test_stopping_leaves_no_descendant(self, launcher: Launcher, runs: Runs) -> None:
        run_file, handle = await runs.working("family")
        assert len(living(run_file)) == FAMILY
        await launcher.stop(handle, 0.2)
        assert living(run_file) == []

    async def test_a_run_that_ends_leaves_no_descendant(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="orphans")
        status = await ended(launcher, await runs.start(run_file))
        assert status.exit_code == 3
        assert len(pids(run_file)) == FAMILY
        assert living(run_file) == []

    async def test_stopping_twice_does_nothing(self, launcher: Launcher, runs: Runs) -> None:
        _, handle = await runs.working()
        await launcher.stop(handle, PATIENCE)
        status = await launcher.poll(handle)
        await launcher.stop(handle, PATIENCE)
        await launcher.stop(handle, 0)
        assert await launcher.poll(handle) == status

    async def test_two_may_stop_a_run_at_the_same_time(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        await asyncio.gather(launcher.stop(handle, PATIENCE), launcher.stop(handle, PATIENCE))
        assert (await launcher.poll(handle)).exit_code == 75
        assert living(run_file) == []

    async def test_a_run_can_be_stopped_as_soon_as_it_is_started(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        for _ in range(5):
            run_file = runs.file(do="work")
            handle = await runs.start(run_file)
            await launcher.stop(handle, PATIENCE)
            assert not (await launcher.poll(handle)).is_running
            assert living(run_file) == []

    async def test_starting_the_same_run_file_twice_gives_the_run_that_is_there(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        assert await launcher.start(run_file, described(run_file)) == handle
        assert len(pids(run_file)) == 1

    async def test_starting_a_run_that_has_ended_does_not_run_it_again(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        run_file = runs.file(do="exit", code=3)
        handle = await runs.start(run_file)
        await ended(launcher, handle)
        assert await launcher.start(run_file, described(run_file)) == handle
        assert (await launcher.poll(handle)).exit_code == 3
        assert len(pids(run_file)) == 1

    async def test_many_starters_of_one_run_file_start_one_run(
        self, new_launcher: NewLauncher, runs: Runs
    ) -> None:
        run_file = runs.file(do="work")
        handles = await asyncio.gather(
            *(new_launcher().start(run_file, described(run_file)) for _ in range(8))
        )
        runs.handles.append(handles[0])
        assert len(set(handles)) == 1
        await until(lambda: pids(run_file))
        assert len(living(run_file)) == 1

    async def test_a_handle_works_in_another_launcher(
        self, new_launcher: NewLauncher, runs: Runs
    ) -> None:
        run_file, handle = await runs.working()
        other = new_launcher()
        assert (await other.poll(handle)).is_running
        await other.stop(handle, PATIENCE)
        assert (await other.poll(handle)).exit_code == 75
        assert living(run_file) == []

    async def test_runs_side_by_side_do_not_touch_each_other(
        self, launcher: Launcher, runs: Runs
    ) -> None:
        first_file, first = await runs.working("family")
        second_file, second = await runs.working("family")
        await launcher.stop(first, 0)
        assert living(first_file) == []
        assert len(living(second_file)) == FAMILY
        assert (await launcher.poll(second)).is_running
