"""Corral's commands on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time

SECONDS = 60
# A session's first process has to claim its terminal for Ctrl-C to reach it; and a test run that a
# script started in the background hands down an ignored SIGINT, which no terminal would.
ON_ITS_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from corral.cli.main import main; main()",
)


class Screen:
    """A process on a pseudo-terminal: type, and wait for what shows."""

    def __init__(self, *arguments: str, term: str = "dumb", columns: int = 80) -> None:
        self._terminal, end = pty.openpty()
        termios.tcsetwinsize(end, (24, columns))
        # Not pty.fork: this process runs gRPC's threads, and forking one with threads may hang it.
        self._process = subprocess.Popen(
            [*ON_ITS_TERMINAL, *arguments],
            # These would overrule the terminal's own size.
            env={k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
            | {"TERM": term},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self._shown = b""

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)

    def wait_for(self, text: str) -> None:
        """Return once the text shows behind what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while text.encode() not in self._shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} does not show in {self._shown!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self._shown += os.read(self._terminal, 4096)
        self._shown = self._shown.partition(text.encode())[2]

    def exit_code(self) -> int:
        code = self._process.wait(SECONDS)
        os.close(self._terminal)
        return code
