from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.conditions import until

from corral.cli.up.child import MOST_FAILURES, ChildSpec
from corral.cli.up.supervisor import Supervisor
from corral.errors import LaunchError, UnavailableError

SECONDS = 30

# Appends to the journal when it begins and when SIGTERM ends it; makes a file when it is ready.
OBEDIENT = """
import os, signal, sys
name, journal, ready = sys.argv[1:]
def write(word):
    with open(journal, "a") as file:
        file.write(f"{word} {name}\\n")
def end(*_):
    write("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
write("begin")
with open(ready, "w") as file:
    file.write(str(os.getpid()))
while True:
    signal.pause()
"""
STUBBORN = OBEDIENT.replace("    sys.exit(0)\n", "")
CRASHING = "print('the last words'); raise SystemExit(7)"


class Stage:
    """A supervisor over small programs, and what they wrote."""

    def __init__(
        self,
        folder: Path,
        *stages: dict[str, str],
        stop_seconds: float = SECONDS,
        unready: Collection[str] = (),
    ) -> None:
        self.said: list[str] = []
        self.shutdown, self.force, self.ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._folder = folder
        self._journal = folder / "journal"
        self._stop_seconds = stop_seconds
        self._unready = unready
        specs = [[self._spec(name, code) for name, code in stage.items()] for stage in stages]
        self._supervisor = Supervisor(specs, self.said.append)
        self.task = asyncio.create_task(
            self._supervisor.run(self.shutdown, self.force, self.ready.set)
        )

    def _spec(self, name: str, code: str) -> ChildSpec:
        ready = self._folder / f"{name}.ready"

        async def wait_ready() -> None:
            await until(lambda: self.pid(name))
            if name in self._unready:
                raise UnavailableError("It does not answer.")

        return ChildSpec(
            name=name,
            command=(sys.executable, "-c", code, name, str(self._journal), str(ready)),
            environment=os.environ,
            log=self._folder / f"{name}.log",
            wait_ready=wait_ready,
            stop_seconds=self._stop_seconds,
        )

    def pid(self, name: str) -> int | None:
        """The pid of a program that is ready and lives."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int((self._folder / f"{name}.ready").read_text())
            os.kill(pid, 0)
            return pid
        return None

    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    async def until_ready(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.ready.wait()

    async def stop(self) -> None:
        self.shutdown.set()
        async with asyncio.timeout(SECONDS):
            await self.task


Build = Callable[..., Stage]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    built: list[Stage] = []

    def make(*stages: dict[str, str], **options: Any) -> Stage:
        built.append(Stage(tmp_path, *stages, **options))
        return built[-1]

    yield make
    for stage in built:
        stage.shutdown.set()
        stage.force.set()
        with suppress(LaunchError):
            await stage.task


async def test_stages_begin_in_order_and_end_in_the_opposite_one(build: Build) -> None:
    stage = build({"first": OBEDIENT}, {"second": OBEDIENT}, {"third": OBEDIENT})
    await stage.until_ready()
    pids = [stage.pid(name) for name in ("first", "second", "third")]

    await stage.stop()

    assert None not in pids
    assert stage.journal() == [
        *("begin first", "begin second", "begin third"),
        *("end third", "end second", "end first"),
    ]
    assert [stage.pid(name) for name in ("first", "second", "third")] == [None] * 3


async def test_a_killed_process_is_started_again_and_the_others_are_left_alone(
    build: Build,
) -> None:
    stage = build({"first": OBEDIENT}, {"second": OBEDIENT})
    await stage.until_ready()
    other = stage.pid("second")
    killed = stage.pid("first")
    assert killed is not None

    os.kill(killed, signal.SIGKILL)

    await until(lambda: stage.pid("first") not in (None, killed))
    assert stage.pid("second") == other
    assert stage.said == ["first was ended by SIGKILL. It is started again."]


async def test_a_process_that_keeps_ending_at_once_ends_all_with_its_last_words(
    build: Build,
) -> None:
    stage = build({"good": OBEDIENT}, {"bad": CRASHING})

    with pytest.raises(LaunchError, match=r"bad ended with exit code 7, 5 times") as caught:
        await stage.task

    assert "bad.log" in caught.value.hint
    assert stage.said.count("  | the last words") == MOST_FAILURES
    assert stage.journal() == ["begin good", "end good"]
    assert not stage.ready.is_set()


async def test_a_process_that_does_not_end_in_time_is_killed(build: Build) -> None:
    stage = build({"stubborn": STUBBORN}, stop_seconds=0.3)
    await stage.until_ready()

    await stage.stop()

    assert stage.pid("stubborn") is None
    assert stage.said == ["stubborn is killed."]


async def test_a_second_wish_to_stop_kills_at_once(build: Build) -> None:
    stage = build({"first": STUBBORN}, {"second": STUBBORN})
    await stage.until_ready()
    stage.shutdown.set()
    await until(lambda: "end second" in stage.journal())

    stage.force.set()
    await stage.stop()

    assert [stage.pid(name) for name in ("first", "second")] == [None, None]


async def test_stopping_before_all_is_ready_leaves_nothing(build: Build) -> None:
    never_ready = OBEDIENT.replace("str(os.getpid())", "''")
    stage = build({"slow": never_ready}, {"later": OBEDIENT})
    await until(lambda: stage.journal() == ["begin slow"])

    await stage.stop()

    assert stage.journal() == ["begin slow", "end slow"]
    assert not stage.ready.is_set()


async def test_a_process_that_is_never_ready_is_given_up_with_the_reason(build: Build) -> None:
    stage = build({"first": OBEDIENT}, {"mute": OBEDIENT}, unready={"mute"})

    with pytest.raises(LaunchError, match="mute was ended by SIGKILL, 5 times"):
        await stage.task

    assert "mute: It does not answer." in stage.said
    assert "end first" in stage.journal()
