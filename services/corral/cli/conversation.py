"""A chat at a prompt: turns, history, and the commands that begin with a slash or are a dot.

Talks to any `Chatter`, reads from any function, writes to any two streams: no terminal and no
network of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from corral import formatting
from corral.errors import CorralError, PromptTooLongError
from corral.v1 import inference_pb2

HELP = """\
.             history off, and on again; with it off each question stands alone
/clear        forget the history
/model NAME   go on with another model
/help         this
/quit         end (so does Ctrl-D); Ctrl-C stops a reply"""


class Chatter(Protocol):
    """What a conversation needs of a client."""

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
    ) -> Iterator[inference_pb2.ChatResponse]:
        """Pieces of the answer, then its finish."""

    def get_model(self, model: str) -> inference_pb2.Model:
        """Raises ModelNotFoundError."""


@dataclass(frozen=True)
class Streams:
    """Where a conversation is read and written. `read_line` raises EOFError at the end."""

    read_line: Callable[[str], str]
    write_answer: Callable[[str], None]
    # A whole line for the person, beside the answers.
    say: Callable[[str], None]


@dataclass
class Conversation:
    """One chat with one model at a time."""

    chatter: Chatter
    streams: Streams
    model: str
    sampling: inference_pb2.SamplingOptions
    system: str = ""
    keeps_history: bool = True
    # After so long without a word the person is told of a model that is being loaded.
    silent_seconds: float = 1.0
    _turns: list[inference_pb2.Message] = field(default_factory=list)

    def run(self) -> None:
        """Take lines until the end of input or /quit."""
        while True:
            try:
                line = self.streams.read_line("> ").strip()
            except EOFError:
                self.streams.say("")
                return
            except KeyboardInterrupt:
                self.streams.say("\nCtrl-D or /quit ends the chat.")
                continue
            if line == "/quit":
                return
            try:
                self._take(line)
            except CorralError as error:
                self._show_error(error)

    def _take(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if not line:
            return
        if line == ".":
            self._switch_history()
        elif command == "/model":
            self._switch_model(argument.strip())
        elif line == "/clear":
            self._turns.clear()
            self.streams.say("History is empty.")
        elif line == "/help":
            self.streams.say(HELP)
        elif line.startswith("/") and " " not in line:
            self.streams.say(f"There is no command {line}. /help lists them.")
        else:
            self._ask(line)

    def _ask(self, question: str) -> None:
        turn = inference_pb2.Message(role=inference_pb2.ROLE_USER, content=question)
        before = self._turns if self.keeps_history else []
        answer = self._answer([*self._system_turns(), *before, turn])
        if self.keeps_history and answer:
            reply = inference_pb2.Message(role=inference_pb2.ROLE_ASSISTANT, content=answer)
            self._turns += [turn, reply]

    def _answer(self, messages: Sequence[inference_pb2.Message]) -> str:
        """Show the answer as it comes; what there is of it when Ctrl-C stops it."""
        pieces: list[str] = []
        waiting = threading.Timer(self.silent_seconds, self._tell_of_loading)
        waiting.daemon = True
        responses = self.chatter.chat(self.model, messages, self.sampling)
        waiting.start()
        try:
            for response in responses:
                waiting.cancel()
                if response.WhichOneof("event") == "finish":
                    self.streams.write_answer("\n")
                    self.streams.say(finish_line(response.finish))
                else:
                    pieces.append(response.text)
                    self.streams.write_answer(response.text)
        except KeyboardInterrupt:
            self.streams.write_answer("\n")
            self.streams.say("Stopped.")
        except CorralError:
            if pieces:
                self.streams.write_answer("\n")
            raise
        finally:
            waiting.cancel()
            _close(responses)
        return "".join(pieces)

    def _tell_of_loading(self) -> None:
        # In a thread of its own; a server in trouble fails the answer itself, and says more there.
        with suppress(CorralError):
            if not self.chatter.get_model(self.model).is_loaded:
                self.streams.say(f"Loading {self.model} ...")

    def _switch_history(self) -> None:
        self.keeps_history = not self.keeps_history
        if self.keeps_history:
            kept = formatting.count(len(self._turns) // 2, "earlier question")
            self.streams.say(f"History on, with {kept}.")
        else:
            self.streams.say("History off: each question stands alone.")

    def _switch_model(self, name: str) -> None:
        if not name:
            self.streams.say(f"The model is {self.model}. /model NAME goes on with another.")
            return
        self.model = self.chatter.get_model(name).name or name
        self.streams.say(f"Now with {self.model}.")

    def _system_turns(self) -> list[inference_pb2.Message]:
        if not self.system:
            return []
        return [inference_pb2.Message(role=inference_pb2.ROLE_SYSTEM, content=self.system)]

    def _show_error(self, error: CorralError) -> None:
        self.streams.say(f"error: {error.message}")
        if isinstance(error, PromptTooLongError) and self.keeps_history and self._turns:
            self.streams.say("A dot (.) switches history off, /clear empties it.")
        elif error.hint:
            self.streams.say(error.hint)


def finish_line(finish: inference_pb2.Finish) -> str:
    """How long an answer took, and how fast it came."""
    parts = [
        formatting.duration(finish.total_time.ToNanoseconds() / 1e9),
        formatting.count(finish.completion_tokens, "token"),
        formatting.rate(finish.tokens_per_second),
    ]
    if finish.reason == inference_pb2.FINISH_REASON_LENGTH:
        parts.append("cut at its length limit")
    return ", ".join(parts)


def _close(responses: Iterator[inference_pb2.ChatResponse]) -> None:
    close = getattr(responses, "close", None)
    if close is not None:
        close()
