"""Preambles that are known by name, for the alpaca template: each is a text file of this folder.

Knows nothing of templates.
"""

from __future__ import annotations

from importlib.resources import files


def named_preambles() -> tuple[str, ...]:
    """The names, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".txt") for name in found if name.endswith(".txt")))


def named_preamble(name: str) -> str | None:
    """The preamble of a name, without the newline at its end, or None where there is none."""
    if name not in named_preambles():
        return None
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
