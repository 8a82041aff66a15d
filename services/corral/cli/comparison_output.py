"""A comparison of prompts on the screen: a table of figures, the answers side by side, the verdict.

Knows nothing of how they are measured.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral.cli import output

if TYPE_CHECKING:
    from rich.table import Table

    from corral.cli.prompt_comparison import Answer, Measured

# Where no terminal says how wide it is.
_WIDTH = 120


def show(measured: Sequence[Measured], sentence: str) -> None:
    """Print everything on stdout."""
    from rich.console import Console

    width = shutil.get_terminal_size((_WIDTH, 0)).columns if sys.stdout.isatty() else _WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False)
    output.result(figures_table(measured))
    console.print()
    console.print(_answers_table(measured))
    output.result(f"\n{sentence}")


def figures_table(measured: Sequence[Measured]) -> str:
    """A line of figures for each prompt."""
    headers = ("prompt", "loss", "stop", "repetition", "loops", "tokens")
    return output.table(
        headers,
        [
            (
                _heading(one),
                "-" if one.loss is None else f"{one.loss:.4f}",
                f"{one.stop_rate:.0%}",
                f"{one.repetition_rate:.0%}",
                f"{one.looping_rate:.0%}",
                f"{one.answer_tokens:.1f}",
            )
            for one in measured
        ],
    )


def _answers_table(measured: Sequence[Measured]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for heading in ("question", *map(_heading, measured)):
        # Text: what stands in a row or an answer is not markup.
        table.add_column(Text(output.printable(heading, sys.stdout)), overflow="fold", ratio=1)
    for answers in zip(*(one.answers for one in measured), strict=True):
        cells = (answers[0].question, *map(_shown, answers))
        table.add_row(*(Text(output.printable(cell, sys.stdout)) for cell in cells))
    return table


def _heading(measured: Measured) -> str:
    return f"{measured.prompt.name}{' (trained)' if measured.prompt.trained else ''}"


def _shown(answer: Answer) -> str:
    ending = "" if answer.stopped else " [loops]" if answer.looping else " [cut]"
    return f"{answer.answer.strip() or '(nothing)'}{ending}"
