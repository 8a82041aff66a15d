"""Functions for the double's own tests to deploy: what a container runs. Nothing here is a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import modal


def describe(folder: str, *, word: str = "") -> dict[str, str]:
    """What the container got; `folder` was given as a path below a mount."""
    command = shutil.which("nvidia-smi") or "true"
    listed = subprocess.run([command], capture_output=True, text=True, check=False).stdout
    return {
        "folder": folder,
        "word": word,
        "gpus": listed,
        "call": modal.current_function_call_id() or "",
        "secret": os.environ.get("SECRET", ""),
        "image": os.environ.get("FROM_IMAGE", ""),
        "source": __file__,
        "home": os.environ["HOME"],
    }


def fail(message: str) -> None:
    raise ValueError(message)


def commit(folder: str, volume: str) -> str:
    """Commit a file with the real client, wait until another comes from outside, and return it."""
    Path(folder, "inside").write_text("from inside")
    mounted = modal.Volume.from_name(volume)
    mounted.commit()
    while not Path(folder, "outside").exists():
        mounted.reload()
    return Path(folder, "outside").read_text()
