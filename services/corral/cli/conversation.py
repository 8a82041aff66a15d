"""A chat at a prompt: turns, history, and the commands that begin with a slash or are a dot.

Talks to any `Chatter`, reads from any function, writes to any two streams: no terminal and no
network of its own. Several models at once are shown by corral.cli.side_by_side.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from corral import formatting
from corral.cli.answer_notes import finish_line, note_of
from corral.cli.side_by_side import MOST_MODELS, Answers, Display, Round, with_seed
from corral.cli.transcript import write_rows
from corral.errors import CorralError, PromptTooLongError
from corral.v1 import inference_pb2

HELP = """\
.               history off, and on again; with it off each question stands alone
/clear          forget the history
/retry          another answer to the last question, in place of the last
/model NAME     go on with another model
/compare NAME   let another model answer beside this one
/save FILE      write the conversation as a row that `corral train` reads
\\               at the end of a line: goes on with the next; so does \"\"\" until \"\"\"
/help           this
/quit           end (so does Ctrl-D); Ctrl-C stops a reply"""


class Chatter(Protocol):
    """What a conversation needs of a client."""

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
        *,
        drop_oldest_turns: bool = False,
    ) -> Answers:
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
    # Shows the answers of several models, given their names.
    side_by_side: Callable[[Sequence[str]], Display]


@dataclass
class Partner:
    """A model, and what has been said to it and by it."""

    model: str
    turns: list[inference_pb2.Message] = field(default_factory=list)

    def before(self, question: str) -> list[inference_pb2.Message]:
        """The turns without the last question, where it is this one, and its answer."""
        asked_last = self.turns and self.turns[-2].content == question
        return self.turns[:-2] if asked_last else self.turns


@dataclass
class Conversation:
    """One chat, with one model or with several that answer the same questions."""

    chatter: Chatter
    streams: Streams
    models: Sequence[str]
    sampling: inference_pb2.SamplingOptions
    system: str = ""
    drop_oldest: bool = False
    keeps_history: bool = True
    # After so long without a word the person is told of a model that is being loaded.
    silent_seconds: float = 1.0
    _partners: list[Partner] = field(init=False)
    _question: str = ""

    def __post_init__(self) -> None:
        self._partners = [Partner(model) for model in self.models]

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
        with_argument = {
            "/model": self._switch_model,
            "/compare": self._compare,
            "/save": self._save,
        }
        alone: dict[str, Callable[[], None]] = {
            ".": self._switch_history,
            "/clear": self._clear,
            "/retry": self._retry,
            "/help": lambda: self.streams.say(HELP),
        }
        if not line:
            return
        if command in with_argument:
            with_argument[command](argument.strip())
        elif line in alone:
            alone[line]()
        elif line.startswith("/") and " " not in line:
            self.streams.say(f"There is no command {line}. /help lists them.")
        else:
            self._ask(line, self.sampling)

    # ------------------------------------------------------------ asking

    def _ask(
        self, question: str, sampling: inference_pb2.SamplingOptions, *, again: bool = False
    ) -> None:
        self._question = question
        turn = inference_pb2.Message(role=inference_pb2.ROLE_USER, content=question)
        before = [
            partner.before(question) if again else partner.turns for partner in self._partners
        ]
        is_alone = len(self._partners) == 1
        seeded = sampling if is_alone else with_seed(sampling)
        begin = [
            partial(self._begin, partner.model, [*turns, turn], seeded)
            for partner, turns in zip(self._partners, before, strict=True)
        ]
        answers = [self._answer(begin[0])] if is_alone else self._answer_all(begin, seeded.seed)
        for partner, turns, answer in zip(self._partners, before, answers, strict=True):
            if self.keeps_history and answer:
                reply = inference_pb2.Message(role=inference_pb2.ROLE_ASSISTANT, content=answer)
                partner.turns = [*turns, turn, reply]

    def _begin(
        self,
        model: str,
        turns: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
    ) -> Answers:
        messages = [*self._system_turns(), *(turns if self.keeps_history else turns[-1:])]
        return self.chatter.chat(model, messages, sampling, drop_oldest_turns=self.drop_oldest)

    def _answer(self, begin: Callable[[], Answers]) -> str:
        """Show the answer as it comes; what there is of it when Ctrl-C stops it."""
        pieces: list[str] = []
        waiting = threading.Timer(self.silent_seconds, self._tell_of_loading)
        waiting.daemon = True
        responses = begin()
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
            responses.close()
        return "".join(pieces)

    def _answer_all(self, begin: Sequence[Callable[[], Answers]], seed: int) -> list[str]:
        """Show the answers of all models; of one that failed, nothing is kept."""
        asked = Round()
        names = [partner.model for partner in self._partners]
        asked.ask(begin, self.streams.side_by_side(names), note_of)
        if asked.was_stopped:
            self.streams.say("Stopped.")
        self.streams.say(f"Seed {seed}.")
        return [answer.text if answer.error is None else "" for answer in asked.answers]

    def _tell_of_loading(self) -> None:
        # In a thread of its own; a server in trouble fails the answer itself, and says more there.
        model = self._partners[0].model
        with suppress(CorralError):
            if not self.chatter.get_model(model).is_loaded:
                self.streams.say(f"Loading {model} ...")

    # ------------------------------------------------------------ commands

    def _retry(self) -> None:
        if not self._question:
            self.streams.say("Nothing has been asked yet.")
            return
        sampling = inference_pb2.SamplingOptions()
        sampling.CopyFrom(self.sampling)
        # With the seed that was given the answer would be the same.
        sampling.ClearField("seed")
        self._ask(self._question, sampling, again=True)

    def _clear(self) -> None:
        for partner in self._partners:
            partner.turns.clear()
        self.streams.say("History is empty.")

    def _switch_history(self) -> None:
        self.keeps_history = not self.keeps_history
        if self.keeps_history:
            kept = formatting.count(len(self._partners[0].turns) // 2, "earlier question")
            self.streams.say(f"History on, with {kept}.")
        else:
            self.streams.say("History off: each question stands alone.")

    def _switch_model(self, name: str) -> None:
        if not name:
            said = " and ".join(partner.model for partner in self._partners)
            self.streams.say(f"The model is {said}. /model NAME goes on with another.")
            return
        model = self.chatter.get_model(name).name or name
        self._partners = [Partner(model, self._partners[0].turns)]
        self.streams.say(f"Now with {model}.")

    def _compare(self, name: str) -> None:
        if not name:
            self.streams.say("/compare NAME lets another model answer beside this one.")
        elif len(self._partners) == MOST_MODELS:
            self.streams.say(f"{MOST_MODELS} models are the most. /model NAME goes on with one.")
        else:
            model = self.chatter.get_model(name).name or name
            self._partners.append(Partner(model, list(self._partners[0].turns)))
            self.streams.say(f"{model} answers too. /model NAME goes on with one model.")

    def _save(self, name: str) -> None:
        histories = [partner.turns for partner in self._partners if partner.turns]
        if not name or not histories:
            self.streams.say("/save FILE writes the history." if histories else "History is empty.")
            return
        path = Path(name).expanduser()
        write_rows(path, [[*self._system_turns(), *turns] for turns in histories])
        self.streams.say(f"Saved to {path}.")

    def _system_turns(self) -> list[inference_pb2.Message]:
        if not self.system:
            return []
        return [inference_pb2.Message(role=inference_pb2.ROLE_SYSTEM, content=self.system)]

    def _show_error(self, error: CorralError) -> None:
        self.streams.say(f"error: {error.message}")
        if isinstance(error, PromptTooLongError) and self.keeps_history and self._partners[0].turns:
            self.streams.say(
                "A dot (.) switches history off, /clear empties it; with --drop-oldest the oldest"
                " questions are left out."
            )
        elif error.hint:
            self.streams.say(error.hint)
