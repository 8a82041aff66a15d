from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from corral.cli.conversation import Conversation, Streams, finish_line
from corral.errors import CorralError, ModelNotFoundError, PromptTooLongError
from corral.v1 import inference_pb2

SECONDS = 60


class FakeChatter:
    """Answers each question with itself in capitals, in two pieces; or raises."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.models: list[str] = []
        self.error: BaseException | None = None
        self.error_after = 0
        self.is_loaded = True
        # What an answer waits for before its first piece.
        self.wait: Callable[[], object] = lambda: None

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
    ) -> Iterator[inference_pb2.ChatResponse]:
        self.models.append(model)
        self.seen.append([message.content for message in messages])
        answer = messages[-1].content.upper()
        pieces = [answer[:1], answer[1:]]
        self.wait()
        for number, piece in enumerate(pieces):
            self._maybe_raise(number)
            yield inference_pb2.ChatResponse(text=piece)
        self._maybe_raise(len(pieces))
        yield inference_pb2.ChatResponse(finish=inference_pb2.Finish(completion_tokens=2))

    def get_model(self, model: str) -> inference_pb2.Model:
        if model == "missing":
            raise ModelNotFoundError("There is no model missing.", "corral models list")
        return inference_pb2.Model(name=f"{model}:newest", is_loaded=self.is_loaded)

    def _maybe_raise(self, number: int) -> None:
        if self.error is not None and number == self.error_after:
            error, self.error = self.error, None
            raise error


class Terminal:
    """Lines to type, what was answered and what was said. A line may be an exception, or a
    function to call before the next.
    """

    def __init__(self, *lines: object) -> None:
        self._lines = iter(lines)
        self.answers = ""
        self.said: list[str] = []

    def streams(self) -> Streams:
        return Streams(self._read, self._write, self.said.append)

    def _read(self, prompt: str) -> str:
        for line in self._lines:
            if isinstance(line, BaseException):
                raise line
            if callable(line):
                line()
                continue
            assert isinstance(line, str)
            return line
        raise EOFError

    def _write(self, text: str) -> None:
        self.answers += text


@pytest.fixture
def chatter() -> FakeChatter:
    return FakeChatter()


def converse(chatter: FakeChatter, *lines: object, system: str = "") -> Terminal:
    terminal = Terminal(*lines)
    sampling = inference_pb2.SamplingOptions()
    Conversation(chatter, terminal.streams(), "gpt2", sampling, system).run()
    return terminal


def fails(chatter: FakeChatter, error: BaseException, after: int = 0) -> object:
    def arrange() -> None:
        chatter.error, chatter.error_after = error, after

    return arrange


def test_an_answer_is_followed_by_its_time_and_speed(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "hello")

    assert terminal.answers == "HELLO\n"
    assert "tokens/s" in terminal.said[0]


def test_every_turn_goes_with_the_next_question(chatter: FakeChatter) -> None:
    converse(chatter, "one", "two", system="be brief")

    assert chatter.seen == [["be brief", "one"], ["be brief", "one", "ONE", "two"]]


def test_a_dot_switches_history_off_and_on_and_says_which(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "one", ".", "two", "three", ".", "four")

    assert chatter.seen == [["one"], ["two"], ["three"], ["one", "ONE", "four"]]
    states = [line for line in terminal.said if line.startswith("History")]
    assert states == [
        "History off: each question stands alone.",
        "History on, with 1 earlier question.",
    ]


def test_clear_empties_the_history(chatter: FakeChatter) -> None:
    converse(chatter, "one", "/clear", "two")

    assert chatter.seen[-1] == ["two"]


def test_another_model_goes_on_with_the_same_history(chatter: FakeChatter) -> None:
    converse(chatter, "one", "/model tuned", "two")

    assert chatter.models == ["gpt2", "tuned:newest"]
    assert chatter.seen[-1] == ["one", "ONE", "two"]


def test_a_model_that_does_not_exist_leaves_the_old_one(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "/model missing", "one")

    assert "error: There is no model missing." in terminal.said
    assert chatter.models == ["gpt2"]


def test_ctrl_c_stops_the_answer_and_keeps_what_came_of_it(chatter: FakeChatter) -> None:
    terminal = converse(chatter, fails(chatter, KeyboardInterrupt(), after=1), "one", "two")

    assert terminal.answers == "O\nTWO\n"
    assert "Stopped." in terminal.said
    assert chatter.seen[-1] == ["one", "O", "two"]


def test_ctrl_c_at_the_prompt_does_not_end_the_chat(chatter: FakeChatter) -> None:
    terminal = converse(chatter, KeyboardInterrupt(), "one")

    assert terminal.answers == "ONE\n"


def test_an_error_is_told_and_its_question_forgotten(chatter: FakeChatter) -> None:
    error = CorralError("It broke.", "Try again.")
    terminal = converse(chatter, fails(chatter, error, after=1), "one", "two")

    assert terminal.said[:2] == ["error: It broke.", "Try again."]
    assert chatter.seen[-1] == ["two"]


def test_a_prompt_that_became_too_long_says_how_to_make_it_shorter(chatter: FakeChatter) -> None:
    error = PromptTooLongError("The prompt has 900 tokens.", "Shorten the message.")
    terminal = converse(chatter, "one", fails(chatter, error), "two")

    assert "error: The prompt has 900 tokens." in terminal.said
    assert any("/clear" in line and "." in line for line in terminal.said)


def test_a_first_prompt_that_is_too_long_gets_the_servers_own_hint(chatter: FakeChatter) -> None:
    error = PromptTooLongError("The prompt has 900 tokens.", "Shorten the message.")
    terminal = converse(chatter, fails(chatter, error), "one")

    assert "Shorten the message." in terminal.said


def test_an_unknown_command_is_not_sent_to_the_model(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "/halp", "", "/help", "/quit", "never asked")

    assert chatter.seen == []
    assert "There is no command /halp. /help lists them." in terminal.said
    assert any("/model NAME" in line for line in terminal.said)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_model_that_is_silent_because_it_loads_is_told_so(is_loaded: bool) -> None:
    asked, told = threading.Event(), threading.Event()

    class Watched(FakeChatter):
        def get_model(self, model: str) -> inference_pb2.Model:
            asked.set()
            return super().get_model(model)

    terminal = Terminal("hello")
    streams = replace(
        terminal.streams(), say=lambda text: (terminal.said.append(text), told.set())[1]
    )
    watched = Watched()
    watched.is_loaded = is_loaded
    watched.wait = lambda: (asked if is_loaded else told).wait(SECONDS)

    Conversation(watched, streams, "gpt2", inference_pb2.SamplingOptions(), silent_seconds=0).run()

    assert asked.is_set()
    assert ("Loading gpt2 ..." in terminal.said) is not is_loaded
    assert terminal.answers == "HELLO\n"


def test_an_answer_that_was_cut_says_so() -> None:
    finish = inference_pb2.Finish(reason=inference_pb2.FINISH_REASON_LENGTH, completion_tokens=1)

    assert finish_line(finish).endswith("1 token, 0.0 tokens/s, cut at its length limit")
