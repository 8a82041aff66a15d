"""Several models answer at the same time, each beside the others or below them.

Reads all answers at once, a thread each, and shows them from the one thread that asked. Knows nothing
of where questions and histories come from.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from corral.errors import CorralError
from corral.v1 import inference_pb2

MOST_MODELS = 3
_SEED_BITS = 31


class Answers(Protocol):
    """The pieces of an answer, then its finish. `close` may come from another thread."""

    def __iter__(self) -> Iterator[inference_pb2.ChatResponse]: ...

    def close(self) -> None: ...


class Display(AbstractContextManager["Display"], Protocol):
    """Shows answers by their numbers, in the order of their models."""

    def add(self, number: int, text: str) -> None:
        """A piece of an answer."""

    def end(self, number: int, note: str) -> None:
        """The answer is complete, or failed; the note says how it went."""


@dataclass
class Answered:
    """What came of one model's answer; no finish where it was stopped or failed."""

    text: str = ""
    finish: inference_pb2.Finish | None = None
    error: CorralError | None = None


@dataclass(frozen=True)
class _Event:
    number: int
    # An error, or None at the end.
    content: inference_pb2.ChatResponse | CorralError | None


@dataclass
class Round:
    """One question to several models: what they have answered so far, in the models' order."""

    answers: list[Answered] = field(default_factory=list)
    was_stopped: bool = False

    def ask(
        self,
        begin: Sequence[Callable[[], Answers]],
        display: Display,
        note_of: Callable[[Answered], str],
    ) -> None:
        """Begin every answer and show them all as they come. Ctrl-C stops those that are unfinished."""
        self.answers = [Answered() for _ in begin]
        events: SimpleQueue[_Event] = SimpleQueue()
        readers = [_Reader(number, one, events) for number, one in enumerate(begin)]
        with display:
            try:
                self._take(events, display, note_of)
            except KeyboardInterrupt:
                self.was_stopped = True
            finally:
                for reader in readers:
                    reader.stop()

    def _take(
        self,
        events: SimpleQueue[_Event],
        display: Display,
        note_of: Callable[[Answered], str],
    ) -> None:
        unfinished = len(self.answers)
        while unfinished:
            event = events.get()
            answer, content = self.answers[event.number], event.content
            if content is None:
                unfinished -= 1
                display.end(event.number, note_of(answer))
            elif isinstance(content, CorralError):
                answer.error = content
            elif content.WhichOneof("event") == "finish":
                answer.finish = content.finish
            else:
                answer.text += content.text
                display.add(event.number, content.text)


class _Reader:
    """A thread that reads one answer into a queue."""

    def __init__(
        self, number: int, begin: Callable[[], Answers], events: SimpleQueue[_Event]
    ) -> None:
        self._number = number
        self._begin = begin
        self._events = events
        self._stopped = threading.Event()
        self._answers: Answers | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._answers is not None:
            self._answers.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._answers = self._begin()
            with closing(self._answers):
                if self._stopped.is_set():
                    return
                for response in self._answers:
                    if self._stopped.is_set():
                        break
                    self._events.put(_Event(self._number, response))
        except CorralError as error:
            self._events.put(_Event(self._number, error))
        finally:
            self._events.put(_Event(self._number, None))


def with_seed(sampling: inference_pb2.SamplingOptions) -> inference_pb2.SamplingOptions:
    """The options with a seed of their own where they have none, so that all draw alike."""
    seeded = inference_pb2.SamplingOptions()
    seeded.CopyFrom(sampling)
    if not seeded.HasField("seed"):
        seeded.seed = secrets.randbits(_SEED_BITS)
    return seeded
