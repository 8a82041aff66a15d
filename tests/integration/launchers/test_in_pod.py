"""The first process of a training pod, run here as Kubernetes would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conditions import wait_for
from tests.conformance import stand_in_run
from tests.conformance.launcher import living, pids

from corral.launchers.in_pod import cores
from corral.run import Ended, EventWriter, now

GRACE = "30"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "job-1" / "a1"
    path.mkdir(parents=True)
    return path


def start(folder: Path, *command: str, rank: int = 0, processes: int = 1) -> subprocess.Popen[str]:
    place = ["--rank", str(rank), "--processes", str(processes), "--grace", GRACE]
    return subprocess.Popen(
        [sys.executable, "-m", "corral.launchers.in_pod", str(folder), *place, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
    )


def run(folder: Path, *command: str, **place: int) -> tuple[int, str]:
    process = start(folder, *command, **place)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def stand_in(folder: Path, **asked: Any) -> tuple[str, ...]:
    (folder / "run.json").write_text(json.dumps(asked))
    return (sys.executable, stand_in_run.__file__, str(folder / "run.json"))


def exit_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "exit.json").read_text())
    assert isinstance(found, dict)
    return found


def said_at_the_end(folder: Path, outcome: str) -> None:
    event = {"time": now(), "outcome": outcome}
    EventWriter(folder / "events.jsonl").write(Ended.model_validate(event))


def test_what_is_printed_goes_to_the_pod_and_to_the_volume(folder: Path) -> None:
    code, output = run(folder, *python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert code == 0
    assert sorted(output.split()) == ["err", "out"]
    assert (folder / "log.txt").read_text() == output


def test_more_output_than_a_pipe_holds_is_kept(folder: Path) -> None:
    code, output = run(folder, *python("print('x' * 1000000)"))
    assert code == 0
    assert (folder / "log.txt").stat().st_size == len(output) == 1_000_001


@pytest.mark.parametrize(
    ("outcome", "expected"), [("stopped", 75), ("failed", 2), ("done", 1), (None, 1)]
)
def test_the_exit_code_is_what_the_run_said_at_its_end(
    folder: Path, outcome: str | None, expected: int
) -> None:
    if outcome:
        said_at_the_end(folder, outcome)
    # As torchrun does, whatever its processes exit with.
    code, _ = run(folder, *python("raise SystemExit(1)"))
    assert code == expected
    assert exit_of(folder) == {"exit_code": 1, "signal": None}


def test_a_run_that_ended_well_is_a_success(folder: Path) -> None:
    said_at_the_end(folder, "stopped")
    assert run(folder, *python("pass"))[0] == 0


def test_a_signal_is_told_as_a_container_would(folder: Path) -> None:
    code, _ = run(folder, *stand_in(folder, do="die", signal="SIGSEGV"))
    assert code == 128 + signal.SIGSEGV
    assert exit_of(folder) == {"exit_code": None, "signal": "SIGSEGV"}


def test_a_pod_that_comes_a_second_time_does_nothing(folder: Path) -> None:
    run(folder, *python("print('first')"))
    code, output = run(folder, *python("print('second')"))
    assert code == 1
    assert "has run before" in output
    assert (folder / "log.txt").read_text() == "first\n"
    assert exit_of(folder) == {"exit_code": 0, "signal": None}


def test_other_nodes_write_logs_of_their_own_and_no_exit(folder: Path) -> None:
    assert run(folder, *python("print('second node')"), rank=1)[0] == 0
    assert (folder / "log-1.txt").read_text() == "second node\n"
    assert not (folder / "log.txt").exists()
    assert not (folder / "exit.json").exists()


def test_a_pod_that_is_stopped_lets_the_run_save(folder: Path) -> None:
    process = start(folder, *stand_in(folder, do="work"))
    wait_for(lambda: pids(folder / "run.json"))
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert exit_of(folder) == {"exit_code": 75, "signal": None}
    assert (folder / "stopped").exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_grace_period_can_be_cut_short_through_the_volume(folder: Path, when: str) -> None:
    process = start(folder, *stand_in(folder, do="family"))
    wait_for(lambda: len(pids(folder / "run.json")) == stand_in_run.FAMILY)
    if when == "before":
        (folder / "stop.json").write_text('{"grace_seconds": 0}')
    process.terminate()
    if when == "after":
        (folder / "stop.json").write_text('{"grace_seconds": 0.1}')
    process.communicate(timeout=20)
    assert exit_of(folder) == {"exit_code": None, "signal": "SIGKILL"}
    assert living(folder / "run.json") == []


def test_a_stop_that_came_before_the_pod_began_is_heeded(folder: Path) -> None:
    (folder / "stop.json").write_text('{"grace_seconds": 0}')
    run(folder, *stand_in(folder, do="work"))
    assert exit_of(folder) == {"exit_code": None, "signal": "SIGKILL"}


def test_a_run_is_asked_to_stop_through_the_volume(folder: Path) -> None:
    process = start(folder, *stand_in(folder, do="work"))
    wait_for(lambda: pids(folder / "run.json"))
    (folder / "stop.json").write_text('{"grace_seconds": 20}')
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert (folder / "stopped").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"grace_seconds": "soon"}'])
def test_a_damaged_wish_to_stop_leaves_the_grace_period_as_it_is(
    folder: Path, content: str
) -> None:
    process = start(folder, *stand_in(folder, do="work"))
    wait_for(lambda: pids(folder / "run.json"))
    (folder / "stop.json").write_text(content)
    process.terminate()
    process.communicate(timeout=60)
    assert exit_of(folder)["exit_code"] == 75


def test_a_command_that_is_not_there_says_so(folder: Path) -> None:
    code, output = run(folder, "/no/command")
    assert code == 127
    assert "/no/command" in output


def test_processes_share_the_cores(folder: Path) -> None:
    _, output = run(folder, *python("import os; print(os.environ['OMP_NUM_THREADS'])"), processes=2)
    assert output.strip() == str(max(1, cores() // 2))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", None),
        ("", None),
        ("9900000 100000", None),
    ],
)
def test_a_cpu_limit_counts_as_cores(tmp_path: Path, quota: str, expected: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert cores(file) == (expected or len(os.sched_getaffinity(0)))


def test_it_starts_without_what_takes_long_to_load() -> None:
    code = (
        "import sys, corral.launchers.in_pod\n"
        "print([name for name in sys.modules if name.partition('.')[0]\n"
        "       in ('pydantic', 'pydantic_core', 'torch', 'redis', 'grpc', 'kubernetes')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
