"""One request, where the event loop and the engine's thread meet: what goes into it, what comes out.

Knows nothing of queues, slots or batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from corral.errors import DeadlineError
from corral.generation.answers import Finish, FinishReason, Piece

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel

# What one step made of one answer; an error ends it.
StepOutputs: TypeAlias = "Sequence[Piece | Finish] | Exception"


class Answering(Protocol):
    """An answer in the making, as `corral.generation.generating.Generation` is one."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


@dataclass(frozen=True)
class Answered:
    """The end of an answer. Times are seconds of `time.monotonic`."""

    finish: Finish
    first_token_at: float
    last_token_at: float


Output: TypeAlias = Piece | Answered


@dataclass(frozen=True)
class Ended:
    """What became of a request: exactly one for each. `outcome` is a finish reason, or an error's code
    in lower case. Times as in Answered; `first_token_at` is 0 where there was no token.
    """

    outcome: str
    submitted_at: float
    first_token_at: float
    ended_at: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(eq=False)
class Request:
    """One request, where the two sides meet."""

    model: LoadedModel
    # Of `time.monotonic`.
    until: float | None
    answering: Any = None
    outputs: asyncio.Queue[Output | Exception] = field(default_factory=asyncio.Queue)
    # Set when nobody reads any more.
    abandoned: bool = False
    submitted_at: float = field(default_factory=time.monotonic)
    first_token_at: float = 0.0
    finish: Finish | None = None
    outcome: str = FinishReason.CANCELLED.value
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def is_hopeless(self, now: float) -> bool:
        """Whether nobody would see its answer."""
        return self.abandoned or (self.until is not None and self.until < now)

    def give(self, output: Output | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self.outputs.put_nowait, output)
        except RuntimeError:  # the event loop has closed: nobody is left who could read
            self.abandoned = True


def too_late() -> DeadlineError:
    """What a request whose deadline passes is told."""
    return DeadlineError(
        "The request's time was up before its answer was complete.",
        "Allow more time, or ask for fewer max_tokens.",
    )
