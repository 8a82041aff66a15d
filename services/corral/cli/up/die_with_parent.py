"""Becomes another program that gets SIGTERM when its parent dies, even of SIGKILL.

    python -m corral.cli.up.die_with_parent PARENT_PID COMMAND…

A program of its own, because code between fork and exec is not safe in a process with threads. On
Linux only; elsewhere the program is merely started. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; the setting survives exec


def main() -> None:
    """Never returns: it ends, or is the other program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before the line above, and then its death is no signal.
    if os.getppid() != parent:
        sys.exit("The parent has ended.")
    os.execvp(command[0], command)  # noqa: S606  # the point of this program


if __name__ == "__main__":
    main()
