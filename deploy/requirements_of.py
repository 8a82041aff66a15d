"""Prints what pyproject.toml asks for: its dependencies and those of the extras that are named.

    python deploy/requirements_of.py pyproject.toml services tensors

The images install this list before the package itself, so that a change of the code does not install
the dependencies again. Knows nothing of versions: the lock file constrains them.
"""

import sys
import tomllib
from pathlib import Path


def requirements_of(pyproject: Path, extras: list[str]) -> list[str]:
    """The requirements of the project with some extras. Raises KeyError for an unknown extra."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras)]
    return sorted({requirement for found in lists for requirement in found})


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements_of(Path(sys.argv[1]), sys.argv[2:])) + "\n")
