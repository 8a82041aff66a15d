from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from corral.cli.answer_displays import Blocks
from corral.cli.answer_notes import finish_line
from corral.cli.conversation import Conversation, Streams
from corral.data.reading import read_rows
from corral.data.rows import parse_row
from corral.errors import CorralError, ModelNotFoundError, PromptTooLongError
from corral.v1 import inference_pb2

SECONDS = 60


class FakeChatter:
    """Answers each question with itself in capitals, in two pieces; or raises."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.models: list[str] = []
        self.sampling: list[inference_pb2.SamplingOptions] = []
        self.may_drop: list[bool] = []
        self.error: BaseException | None = None
        self.error_after = 0
        self.is_loaded = True
        self.say_name = False
        # The model that always fails.
        self.failing = ""
        # What an answer waits for before its first piece.
        self.wait: Callable[[], object] = lambda: None

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
        *,
        drop_oldest_turns: bool = False,
    ) -> Generator[inference_pb2.ChatResponse]:
        self.models.append(model)
        self.sampling.append(sampling)
        self.may_drop.append(drop_oldest_turns)
        self.seen.append([message.content for message in messages])
        answer = messages[-1].content.upper()
        if model == self.failing:
            raise CorralError(f"{model} broke.")
        if self.say_name:
            answer = f"{model} {answer}"
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
        return Streams(
            self._read,
            self._write,
            self.said.append,
            lambda names: Blocks(names, self._write, self.said.append),
        )

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


def converse(
    chatter: FakeChatter,
    *lines: object,
    models: Sequence[str] = ("gpt2",),
    system: str = "",
    drop_oldest: bool = False,
    **sampling: Any,
) -> Terminal:
    terminal = Terminal(*lines)
    options = inference_pb2.SamplingOptions(**sampling)
    streams = terminal.streams()
    Conversation(chatter, streams, models, options, system, drop_oldest=drop_oldest).run()
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

    Conversation(
        watched, streams, ["gpt2"], inference_pb2.SamplingOptions(), silent_seconds=0
    ).run()

    assert asked.is_set()
    assert ("Loading gpt2 ..." in terminal.said) is not is_loaded
    assert terminal.answers == "HELLO\n"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": inference_pb2.FINISH_REASON_LENGTH}, "tokens/s, cut at its length limit"),
        ({"reason": inference_pb2.FINISH_REASON_LOOP}, "it began to repeat itself: ended"),
        ({"dropped_turns": 2}, "2 oldest questions left out of the prompt"),
    ],
)
def test_what_is_out_of_the_ordinary_stands_at_the_end_of_an_answers_line(
    fields: dict[str, Any], said: str
) -> None:
    assert finish_line(inference_pb2.Finish(**fields)).endswith(said)


def test_an_answers_line_tells_the_prompts_length_and_the_time_to_its_first_token() -> None:
    finish = inference_pb2.Finish(
        prompt_tokens=57,
        completion_tokens=1,
        total_time=timedelta(seconds=2),
        time_to_first_token=timedelta(seconds=0.5),
        tokens_per_second=12,
    )

    assert finish_line(finish) == (
        "2.00 s, first token after 0.50 s, prompt of 57 tokens, 1 token, 12.0 tokens/s"
    )


# ---------------------------------------------------------------- again, and kept


def test_a_retry_takes_the_place_of_the_last_answer(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "one", "two", "/retry", "three", seed=7)

    assert chatter.seen[1] == chatter.seen[2] == ["one", "ONE", "two"]
    assert chatter.seen[3] == ["one", "ONE", "two", "TWO", "three"]
    # Another seed, or there would be the same answer again.
    assert [sampling.HasField("seed") for sampling in chatter.sampling] == [True, True, False, True]
    assert terminal.answers == "ONE\nTWO\nTWO\nTHREE\n"


def test_a_retry_that_fails_leaves_the_answer_that_was_there(chatter: FakeChatter) -> None:
    failing = fails(chatter, CorralError("It broke."))

    converse(chatter, "one", failing, "/retry", "two")

    assert chatter.seen[-1] == ["one", "ONE", "two"]


def test_before_a_question_there_is_nothing_to_retry(chatter: FakeChatter) -> None:
    assert "Nothing has been asked yet." in converse(chatter, "/retry").said


def test_a_saved_conversation_is_a_row_that_can_be_trained_on(
    chatter: FakeChatter, tmp_path: Path
) -> None:
    path = tmp_path / "chat.jsonl"

    terminal = converse(chatter, "one", f"/save {path}", f"/save {path}", system="be brief")

    with path.open("rb") as file:
        ((conversation, problems),) = map(parse_row, read_rows(file))
    assert conversation is not None
    assert not problems
    texts = [message.content for message in conversation.messages]
    assert texts == ["be brief", "one", "ONE"]
    assert any("is there already" in line for line in terminal.said)


@pytest.mark.parametrize("is_asked", [False, True])
def test_old_questions_are_left_out_only_when_that_is_asked_for(
    chatter: FakeChatter, is_asked: bool
) -> None:
    converse(chatter, "one", drop_oldest=is_asked)

    assert chatter.may_drop == [is_asked]


# ---------------------------------------------------------------- several models


def test_two_models_answer_the_same_question_with_one_seed_that_is_told(
    chatter: FakeChatter,
) -> None:
    terminal = converse(chatter, "hello", models=("a", "b"))

    assert terminal.answers == "== a\nHELLO\n== b\nHELLO\n"
    assert sorted(chatter.models) == ["a", "b"]
    first, second = chatter.sampling
    assert first.HasField("seed")
    assert first.seed == second.seed
    assert f"Seed {first.seed}." in terminal.said


def test_each_question_to_several_models_has_a_seed_of_its_own_unless_one_is_given(
    chatter: FakeChatter,
) -> None:
    converse(chatter, "one", "two", models=("a", "b"))
    assert len({sampling.seed for sampling in chatter.sampling}) == 2
    chatter.sampling.clear()
    converse(chatter, "one", "two", models=("a", "b"), seed=7)
    assert {sampling.seed for sampling in chatter.sampling} == {7}


def test_each_model_has_its_own_history(chatter: FakeChatter) -> None:
    chatter.say_name = True

    converse(chatter, "one", "two", models=("a", "b"))

    assert sorted(chatter.seen[2:]) == [["one", "a ONE", "two"], ["one", "b ONE", "two"]]


def test_a_model_that_is_compared_joins_with_the_history_so_far(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "one", "/compare b", "two", "/model c", "three")

    assert sorted(chatter.models) == ["b:newest", "c:newest", "gpt2", "gpt2"]
    assert chatter.seen[1] == chatter.seen[2] == ["one", "ONE", "two"]
    assert chatter.seen[3] == ["one", "ONE", "two", "TWO", "three"]
    assert "b:newest answers too. /model NAME goes on with one model." in terminal.said


def test_more_models_than_can_be_read_are_not_compared(chatter: FakeChatter) -> None:
    terminal = converse(chatter, "/compare d", models=("a", "b", "c"))

    assert "3 models are the most. /model NAME goes on with one." in terminal.said


def test_the_error_of_one_model_is_told_below_its_name_and_the_other_answers(
    chatter: FakeChatter,
) -> None:
    chatter.failing = "a"

    terminal = converse(chatter, "one", "two", models=("a", "b"))

    assert terminal.answers.startswith("== a\n\n== b\nONE\n")
    assert "error: a broke." in terminal.said
    assert sorted(chatter.seen[2:]) == [["one", "ONE", "two"], ["two"]]
