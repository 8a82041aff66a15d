"""The same questions under several prompts, asked of a chatter that is no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from corral.cli.prompt_asking import Asker
from corral.cli.prompt_comparison import Prompt
from corral.data.conversation import Message
from corral.data.questions import AnsweredQuestion
from corral.errors import InvalidRequestError, PromptTooLongError
from corral.v1 import inference_pb2 as pb

OWN = Prompt("own", (("template", "alpaca"),), trained=True)
OTHER = Prompt("other", (("template", "chatml"),))


class Parrot:
    """Says the question back, once under alpaca, and again and again under chatml; a question of more
    than 20 characters does not fit under chatml. An answer costs a nat a word, under chatml two.
    """

    def chat(
        self,
        model: str,
        messages: Sequence[pb.Message],
        sampling: pb.SamplingOptions,
        template: pb.PromptTemplate | None = None,
    ) -> Iterable[pb.ChatResponse]:
        is_own = _checked(messages, template) == "alpaca"
        text = messages[-1].content + " "
        yield pb.ChatResponse(text=text)
        if not is_own:
            yield pb.ChatResponse(text=text * 5)
        reason = pb.FINISH_REASON_STOP if is_own else pb.FINISH_REASON_LENGTH
        yield pb.ChatResponse(finish=pb.Finish(reason=reason, completion_tokens=9))

    def score(
        self,
        model: str,
        messages: Sequence[pb.Message],
        template: pb.PromptTemplate | None = None,
    ) -> pb.ScoreResponse:
        words = len(messages[-1].content.split())
        nats = words if _checked(messages[:-1], template) == "alpaca" else 2 * words
        return pb.ScoreResponse(log_likelihood=-nats, answer_tokens=words)


def _checked(messages: Sequence[pb.Message], template: pb.PromptTemplate | None) -> str:
    assert template is not None
    if template.template == "chatml" and len(messages[-1].content) > 20:
        raise PromptTooLongError("It is too long.")
    return template.template


def question(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_every_prompt_gets_its_loss_and_its_answers() -> None:
    rows = [
        AnsweredQuestion(question("Who?"), "Me."),
        AnsweredQuestion(question("Why?"), "For fun"),
    ]
    own, other = Asker(Parrot(), "m", 9).measure([OWN, OTHER], rows, [question("Who are you")])
    assert (own.loss, other.loss) == (1.0, 2.0)
    assert (own.stop_rate, other.stop_rate) == (1.0, 0.0)
    assert (own.looping_rate, other.looping_rate) == (0.0, 1.0)
    assert own.repetition_rate == 0 < other.repetition_rate
    assert other.answers[0].answer == "Who are you " * 6


def test_what_does_not_fit_under_one_prompt_is_left_out_under_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "Why is the sky blue at noon?"
    rows = [
        AnsweredQuestion(question(long), "one two three"),
        AnsweredQuestion(question("Hi"), "Hi"),
    ]
    measured = Asker(Parrot(), "m", 9).measure(
        [OWN, OTHER], rows, [question(long), question("Who?")]
    )
    assert [[answer.question for answer in one.answers] for one in measured] == [["Who?"]] * 2
    assert [one.loss for one in measured] == [1.0, 2.0]
    assert capsys.readouterr().err.count("left out: It is too long.") == 2


def test_without_rows_there_is_no_loss_and_without_a_question_that_fits_nothing() -> None:
    asker = Asker(Parrot(), "m", 9)
    assert [one.loss for one in asker.measure([OWN, OTHER], [], [question("Hi")])] == [None, None]
    with pytest.raises(InvalidRequestError, match="No question fits"):
        asker.measure([OWN, OTHER], [], [question("Why is the sky blue at noon?")])
