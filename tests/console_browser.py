"""A console in headless Chromium, for tests and for screenshots.

Knows nothing of what is done with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tests.conditions import wait_for

_SECONDS = 60


def chromium() -> str | None:
    """Where Chromium is: Debian's, or what CORRAL_CHROMIUM names."""
    return os.environ.get("CORRAL_CHROMIUM") or shutil.which("chromium")


@contextmanager
def console(trainer: str, folder: Path, *flags: str) -> Iterator[str]:
    """A console on its own server; gives its address, without a slash at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    port_file = folder / "port"
    log = (folder / "console.log").open("wb")
    command = [sys.executable, "-m", "tests.console_server", trainer, str(port_file), *flags]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: port_file.exists() or process.poll() is not None, _SECONDS)
            assert process.poll() is None, (folder / "console.log").read_text()
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield opened
        finally:
            opened.close()
