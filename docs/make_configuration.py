"""Writes docs/configuration.md from the spec, the sampling options and the settings: `make docs`.

A test holds that the page is what this gives. Knows nothing of what the fields do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel

from corral.cli.spec_flags import flag_name
from corral.sampling import SamplingOptions
from corral.settings import Settings
from corral.spec import TrainingSpec

PAGE = Path(__file__).parent / "configuration.md"

_INTRODUCTION = """\
# Configuration

<!-- Written by docs/make_configuration.py from spec.py, sampling.py and settings.py: `make docs`. -->

Three kinds of settings, each written once: what a **run** is asked to do (`spec.py`: a flag of
`corral train` and a field of `TrainingSpec` on the wire), how an **answer** is drawn (`sampling.py`), and how
a **process** of Corral is set up (`settings.py`: variables of its environment)."""


def page() -> str:
    """The whole page as Markdown."""
    spec = [(f"`{name}`", f"`{flag_name(name)}`", *rest) for name, *rest in _fields(TrainingSpec)]
    sampling = [(f"`{name}`", *rest) for name, *rest in _fields(SamplingOptions)]
    settings = [(_variable(name), *rest) for name, *rest in _fields(Settings)]
    sections = [
        _INTRODUCTION,
        "## A run",
        _table(("field", "flag", "default", "allowed", ""), spec),
        "## An answer",
        _table(("field", "default", "allowed", ""), sampling),
        "## A process",
        "Durations are seconds, sizes bytes. Helm values and Compose set the same variables.",
        _table(("variable", "default", "allowed", ""), settings),
    ]
    return "\n\n".join(sections) + "\n"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, allowed values and description of each field."""
    schema = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        known = schema.get(name) or schema.get(_alias(field.validation_alias)) or {}
        yield name, _default(field.default), _allowed(known), (field.description or "")


def _default(value: Any) -> str:
    if value is None or value == "" or value == ():
        return ""
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    return f"`{value}`"


def _allowed(schema: dict[str, Any]) -> str:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    schema = schema | (options[0] if options else {})
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{said} {schema[key]:g}" for key, said in words.items() if key in schema]
    kinds = {"integer": "whole number", "number": "number", "boolean": "yes or no"}
    return ", ".join([*filter(None, [kinds.get(str(schema.get("type")), "")]), *bounds])


def _variable(name: str) -> str:
    alias = _alias(Settings.model_fields[name].validation_alias)
    return f"`{alias or 'CORRAL_' + name.upper()}`"


def _alias(alias: object) -> str:
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else ""


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    cells = ([cell.replace("\n", " ").replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
