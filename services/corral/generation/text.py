"""From tokens to text that can be shown: never half a character, never any of a stop string.

Knows nothing of models: a token is a number, and decoding is a function that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What decoders put in place of bytes that are no character, or not yet one.
REPLACEMENT = "\ufffd"

Decode = Callable[[list[int]], str]


class Detokenizer:
    """Text from tokens, one at a time. All pieces joined are the decoded whole.

    Decodes a window of the last tokens only, so that a long answer does not become slower. The
    window begins one piece early: decoders of the SentencePiece kind drop the space before the very
    first token they get, and that must not happen to a token in the middle.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        # How many of the window's tokens, and of its characters, have been given out.
        self._tokens_out = 0
        self._characters_out = 0

    def push(self, token: int) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode(self._window)
        # Bytes at the end that are no character yet may become one with the next token.
        certain = text.rstrip(REPLACEMENT)
        piece = certain[self._characters_out :]
        self._characters_out = max(self._characters_out, len(certain))
        if piece and certain == text:
            self._move_window()
        return piece

    def flush(self) -> str:
        """What was held back, when no token will follow: an incomplete character shows as U+FFFD."""
        text = self._decode(self._window) if self._window else ""
        piece = text[self._characters_out :]
        self._window, self._tokens_out, self._characters_out = [], 0, 0
        return piece

    def _move_window(self) -> None:
        self._window = self._window[self._tokens_out :]
        self._tokens_out = len(self._window)
        self._characters_out = len(self._decode(self._window))


class StopMatcher:
    """Ends a text before the stop string that is complete first, wherever pieces begin and end."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """The text that is certain now: what may be the beginning of a stop string is held back.

        Sets `stopped` when one is complete; then nothing more may be pushed.
        """
        assert not self.stopped
        text = self._held + piece
        cut = self._first_stop(text)
        self.stopped = cut is not None
        if cut is None:
            cut = len(text) - self._longest_beginning(text)
        self._held = "" if self.stopped else text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back, when no text will follow."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str) -> int | None:
        """Where the stop string begins that ends first; of two that end together, the longer."""
        found = [
            (begin + len(stop), begin) for stop in self._stops if (begin := text.find(stop)) >= 0
        ]
        return min(found)[1] if found else None

    def _longest_beginning(self, text: str) -> int:
        """How many characters at the end of the text could become a stop string."""
        lengths = (
            length
            for stop in self._stops
            for length in range(min(len(stop) - 1, len(text)), 0, -1)
            if text.endswith(stop[:length])
        )
        return max(lengths, default=0)
