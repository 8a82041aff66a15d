from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conditions import wait_for

CHILD = """
import signal, sys
from pathlib import Path
def end(*_):
    Path(sys.argv[1], "asked to end").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1], "begun").touch()
while True:
    signal.pause()
"""
PARENT = """
import os, subprocess, sys
wrapper = [sys.executable, "-m", "corral.cli.up.die_with_parent", str(os.getpid())]
subprocess.Popen([*wrapper, sys.executable, "-c", *sys.argv[1:]]).wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_is_asked_to_end_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)])
    wait_for((tmp_path / "begun").exists)

    parent.kill()
    parent.wait()

    wait_for((tmp_path / "asked to end").exists)


def test_a_child_of_a_parent_that_has_died_already_does_not_begin() -> None:
    command = [sys.executable, "-m", "corral.cli.up.die_with_parent", "1", "echo", "begun"]

    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert found.returncode != 0
    assert found.stdout == ""
