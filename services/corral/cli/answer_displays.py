"""How the answers of several models are shown: below each other as text, or in columns on a terminal.

Knows nothing of where answers come from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from corral.cli import output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

# Characters that a column needs to be read with ease.
_COLUMN_WIDTH = 36


class Blocks:
    """One answer below the other, each under its model's name; the first that is unfinished shows as
    it comes.
    """

    def __init__(
        self, names: Sequence[str], write: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._names = names
        self._write = write
        self._say = say
        self._texts = [""] * len(names)
        self._notes: list[str | None] = [None] * len(names)
        # The answer that is being written, and how much of it is.
        self._current = 0
        self._written = 0

    def __enter__(self) -> Self:
        self._head()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What has come of answers that were stopped is written, too."""
        while self._current < len(self._names):
            self._complete()

    def add(self, number: int, text: str) -> None:
        self._texts[number] += text
        if number == self._current:
            self._show()

    def end(self, number: int, note: str) -> None:
        self._notes[number] = note
        while self._current < len(self._names) and self._notes[self._current] is not None:
            self._complete()

    def _head(self) -> None:
        self._write(f"== {self._names[self._current]}\n")

    def _show(self) -> None:
        text = self._texts[self._current]
        self._write(text[self._written :])
        self._written = len(text)

    def _complete(self) -> None:
        self._show()
        self._write("\n")
        if note := self._notes[self._current]:
            self._say(note)
        self._current += 1
        self._written = 0
        if self._current < len(self._names):
            self._head()


class Columns:
    """Answers beside each other, on a stdout that is a terminal and can redraw what it shows."""

    def __init__(self, names: Sequence[str], console: Console) -> None:
        self._names = names
        self._console = console
        self._texts = [""] * len(names)
        self._notes = [""] * len(names)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        # Gone at the end, when the whole is printed for good: a terminal can't redraw what has left it.
        self._live = Live(get_renderable=self._newest_lines, console=self._console, transient=True)
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._live is not None
        self._live.stop()
        self._console.print(self._table(self._texts))

    def add(self, number: int, text: str) -> None:
        self._texts[number] += output.printable(text, sys.stdout)

    def end(self, number: int, note: str) -> None:
        self._notes[number] = note

    def _newest_lines(self) -> RenderableType:
        """As many lines of each answer's end as the terminal has room for."""
        from rich.text import Text

        room = max(1, self._console.height - 8)
        width = self._console.width // len(self._names) - 3
        return self._table(
            [
                "\n".join(str(line) for line in Text(text).wrap(self._console, width)[-room:])
                for text in self._texts
            ]
        )

    def _table(self, texts: Sequence[str]) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(expand=True, show_footer=any(self._notes), footer_style="dim")
        for name, note in zip(self._names, self._notes, strict=True):
            table.add_column(Text(name), Text(note), ratio=1, overflow="fold")
        table.add_row(*(Text(text) for text in texts))
        return table


def fits_columns(count: int, width: int) -> bool:
    """Whether so many answers can be read beside each other on `width` characters."""
    return width >= count * _COLUMN_WIDTH
