"""What runs first in a container: it calls the deployed function and hands back what comes of it.

    python -P entrypoint.py START_FILE

The start file is a pickle of {module, function, serialized, call_id, input_id, arguments,
result_file}, `arguments` a pickle of (args, kwargs). The result file becomes a pickle of ("value",
value) or ("error", exception, traceback). Without a result the process exits with a code other than
0. As in Modal's own container, the function runs in the main thread, where SIGINT raises
KeyboardInterrupt, and modal.current_function_call_id() tells which call it is.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modal._runtime import execution_context
from modal._serialization import deserialize
from modal.exception import InputCancellation


def main() -> None:
    start = pickle.loads(Path(sys.argv[1]).read_bytes())
    signal.signal(signal.SIGUSR1, _cancel)
    execution_context._set_current_context_ids([start["input_id"]], [start["call_id"]], [""])
    outcome: tuple[object, ...]
    try:
        args, kwargs = pickle.loads(start["arguments"])
        outcome = ("value", _function(start)(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - the function's own, whatever it is
        traceback.print_exc()
        outcome = ("error", _sendable(error), traceback.format_exc())
    target = Path(start["result_file"])
    half = target.with_suffix(".half")
    half.write_bytes(pickle.dumps(outcome))
    half.replace(target)


def _cancel(*_: object) -> None:
    """Cancelled without ending the container: Modal raises this in the function."""
    raise InputCancellation("Input was cancelled by user")


def _function(start: dict[str, Any]) -> Callable[..., Any]:
    if start["serialized"]:
        return deserialize(start["serialized"], None)
    found = importlib.import_module(start["module"])
    for name in start["function"].split("."):
        found = getattr(found, name)
    # Decorated in its module, it is a modal.Function there.
    unwrapped = getattr(found, "get_raw_f", None)
    return unwrapped() if unwrapped else found


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickle may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
    # As in a container: threads that the function left do not keep it.
    sys.stdout.flush()
    os._exit(0)
