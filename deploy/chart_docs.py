"""Writes the table of values into the chart's README, from values.yaml and values.schema.json.

    python deploy/chart_docs.py            rewrite the table
    python deploy/chart_docs.py --check    exit 1 where it is not what the two files give

Knows nothing of what the values do: the schema describes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "corral"
BEGIN = "<!-- The table is made by deploy/chart_docs.py. -->\n"
END = "<!-- End of the table. -->\n"

# Helm hands it to every chart; this one does not read it.
_NOT_OURS = ("global",)


@dataclass(frozen=True)
class Value:
    """One row: a value that is set as a whole. `default` is JSON, in one line."""

    name: str
    default: str
    description: str


def table(values: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    rows = "".join(
        f"| `{row.name}` | `{row.default}` | {row.description} |\n"
        for row in described(values, schema)
    )
    return f"| value | default | |\n| --- | --- | --- |\n{rows}"


def described(values: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Value]:
    """Every value in the order of the schema. Raises KeyError where one has no default."""
    return _described(values, schema, schema.get("$defs", {}), "")


def resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its $ref replaced by what it names; what stands beside the $ref wins."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    target = resolved(definitions[name], definitions) if name else {}
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _described(
    values: Mapping[str, Any],
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    prefix: str,
) -> Iterator[Value]:
    for key, node in schema["properties"].items():
        if not prefix and key in _NOT_OURS:
            continue
        found = resolved(node, definitions)
        # An object that defaults to {} or is no object of fixed names is set as a whole.
        if found.get("properties") and set(found["properties"]) == set(values[key]):
            yield from _described(values[key], found, definitions, f"{prefix}{key}.")
        else:
            default = json.dumps(values[key], ensure_ascii=False).replace("|", "\\|")
            yield Value(f"{prefix}{key}", default, found["description"])


def readme(text: str, rows: str) -> str:
    """README.md with the table between its two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"


def main() -> int:
    """Returns the exit code."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    path = CHART / "README.md"
    old = path.read_text(encoding="utf-8")
    new = readme(old, table(values, schema))
    if "--check" in sys.argv[1:]:
        if old != new:
            sys.stderr.write("charts/corral/README.md is stale: run deploy/chart_docs.py\n")
        return int(old != new)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
