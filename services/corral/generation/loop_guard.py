"""Notices an answer that has begun to repeat itself without end, as small tuned models do.

Stricter than `corral.text_measures.loop_length`, which judges answers afterwards: ending a sound answer
is worse than a few words too many. Knows nothing of text: tokens are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

# A loop is a phrase that fills the end of the answer so many times...
TIMES = 4
# ... and so many tokens at least: rows of dashes, refrains and small tables are no loops.
TOKENS = 48
# No longer phrase is looked for.
LONGEST = 64


class LoopGuard:
    """Follows one answer. A token costs one comparison for each phrase length."""

    def __init__(self, *, times: int = TIMES, tokens: int = TOKENS, longest: int = LONGEST) -> None:
        # How many tokens of a run equal those `phrase` places before, by phrase - 1.
        self._runs = [0] * longest
        self._needed = [
            max((times - 1) * phrase, tokens - phrase) for phrase in range(1, longest + 1)
        ]
        self._recent: list[int] = []
        self._longest = longest

    def push(self, token: int) -> bool:
        """Whether the answer, with this token, ends in a loop."""
        recent, runs = self._recent, self._runs
        looping = False
        for at in range(min(len(recent), self._longest)):
            if recent[-1 - at] == token:
                runs[at] += 1
                looping = looping or runs[at] >= self._needed[at]
            else:
                runs[at] = 0
        recent.append(token)
        if len(recent) > 2 * self._longest:
            del recent[: self._longest]
        return looping


def loops(tokens: Sequence[int]) -> bool:
    """Whether the guard would end an answer of these tokens before its end."""
    guard = LoopGuard()
    return any(guard.push(token) for token in tokens)
