"""What a container on Modal knows of itself: its volume, its GPUs, which call it works for.

Knows nothing of runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

from corral.launchers.modal.gpus import GpuChoice


class MountedVolume:
    """Modal's volume as a container may use it."""

    def __init__(self, name: str) -> None:
        import modal

        self._volume = modal.Volume.from_name(name)

    def commit(self) -> None:
        """Make everything visible outside, or leave it to the next time."""
        _tolerating(self._volume.commit)

    def reload(self) -> None:
        """See what came from outside, or later: a base model that is being read keeps a file open."""
        _tolerating(self._volume.reload)


def _tolerating(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - modal raises RuntimeError and errors of its own
        sys.stderr.write(f"The volume's {call.__name__} did not succeed: {error}\n")


def gpu_here(choices: tuple[GpuChoice, ...]) -> GpuChoice:
    """Which of the alternatives this container has, by what the driver says."""
    return chosen_gpu(choices, _driver_names()) if len(choices) > 1 else choices[0]


def chosen_gpu(choices: tuple[GpuChoice, ...], names: list[str]) -> GpuChoice:
    """The alternative that is meant by the driver's name of each GPU, `NVIDIA A100-SXM4-80GB` say.

    Modal may give a better type than was asked for; the number tells then.
    """
    words = {word for name in names[:1] for word in re.split(r"[^A-Z0-9]+", name.upper())}
    with_count = [choice for choice in choices if choice.count == len(names)]
    for choice in with_count:
        if set(re.split(r"[^A-Z0-9]+", choice.model.name.rstrip("!"))) <= words:
            return choice
    return (with_count or list(choices))[0]


def _driver_names() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    # The driver calls an A10 an A10G on some machines.
    return [line.strip().replace("A10G", "A10") for line in found.stdout.splitlines() if line]


def this_call() -> str:
    """Empty outside of Modal's own container process."""
    import modal

    return modal.current_function_call_id() or ""
