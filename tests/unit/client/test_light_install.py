"""`pip install .` is a client: what it does needs the base dependencies only.

Here everything is installed, so what a plain install would not have can't be imported: an import hook
sees to that.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOOK = """
import json, sys
from importlib.machinery import PathFinder

allowed = set(json.loads(sys.argv[1])) | sys.stdlib_module_names | {"corral"}

class OnlyBase:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        is_there = top in allowed or top.startswith("_sysconfigdata")
        return PathFinder.find_spec(name, path, target) if is_there else None

sys.meta_path[:] = [OnlyBase if one is PathFinder else one for one in sys.meta_path]
"""


def names_of(requirements: Iterable[str]) -> list[str]:
    """The distributions that are required without any extra."""
    found = [re.match(r"[A-Za-z0-9._-]+", one) for one in requirements if "extra ==" not in one]
    return [normal(name[0]) for name in found if name]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def base_modules() -> str:
    """The top-level modules of a plain install's dependencies, as JSON."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    left = names_of(project["dependencies"])
    while left:
        name = left.pop()
        if name in names:
            continue
        names.add(name)
        try:
            left += names_of(distribution(name).requires or ())
        except ModuleNotFoundError:  # another platform's
            continue
    modules = {
        module
        for module, distributions in packages_distributions().items()
        if any(normal(one) in names for one in distributions)
    }
    return json.dumps(sorted(modules))


def with_base_only(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HOOK + program, base_modules(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_module_of_client_and_command_line_can_be_imported() -> None:
    program = (
        "import importlib, pkgutil, corral.cli, corral.client\n"
        "for package in (corral.cli, corral.client):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        try:\n"
        "            importlib.import_module(found.name)\n"
        "        except ImportError as error:\n"
        "            print(found.name, error)\n"
    )

    process = with_base_only(program)

    assert (process.stdout, process.stderr) == ("", "")


@pytest.mark.parametrize(
    "module", ["torch", "transformers", "redis", "kubernetes", "modal", "fastapi", "structlog"]
)
def test_what_is_no_base_dependency_is_kept_out_by_the_hook(module: str) -> None:
    assert module not in json.loads(base_modules())


def test_a_data_set_is_checked(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Who?", "output": "Me."}\n')
    program = "from corral.cli.main import run; sys.exit(run(sys.argv[2:]))"

    process = with_base_only(program, "data", "check", str(tmp_path / "rows.jsonl"), "--json")

    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["rows"] == 1


def test_corral_up_says_what_is_missing(tmp_path: Path) -> None:
    program = "from corral.cli.main import run; sys.exit(run(sys.argv[2:]))"

    process = with_base_only(program, "up", "--data", str(tmp_path))

    assert process.returncode == 6
    assert "pip install" in process.stderr


def test_importing_corral_is_cheap_until_a_client_is_wanted() -> None:
    program = (
        "import sys, corral\n"
        "print(*sorted({'grpc', 'pydantic', 'google.protobuf', 'asyncio'} & set(sys.modules)))\n"
        "corral.Client, corral.AsyncClient\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert process.stdout.split() == []
