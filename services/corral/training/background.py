"""Threads that work beside the training. Knows nothing of what they do."""

from __future__ import annotations

import os
import sys
import threading

# The step's own threads come first, on a machine where every core computes: Linux gives a thread ten
# steps nicer about a tenth of the time that it gives one of them.
_NICER_BY = 10
_NICEST = 19


def lower_priority() -> None:
    """Let every other thread of the machine go before the calling one.

    Linux alone gives threads a priority of their own; elsewhere this does nothing.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICER_BY
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, _NICEST))
