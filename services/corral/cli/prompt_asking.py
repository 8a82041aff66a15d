"""Asks a model the same questions under several prompts, and scores the same answers under them.

What does not fit into the model's context under one of the prompts is left out under all, so that the
figures compare. Knows nothing of where questions come from or how figures are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias, TypeVar

from corral.cli import output
from corral.cli.prompt_comparison import Answer, Measured, Prompt
from corral.data.conversation import Message
from corral.data.questions import AnsweredQuestion
from corral.errors import CorralError, InvalidRequestError, PromptTooLongError
from corral.text_measures import ends_in_loop, pieces, repetition
from corral.v1 import inference_pb2 as pb

# At once: a server answers several together hardly slower than one.
_CALLS = 4
_ROLES = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}

# A conversation up to a user's last message.
Turns: TypeAlias = tuple[Message, ...]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Chatter(Protocol):
    """What is needed of corral.client.connection.Connection, from several threads at once."""

    def chat(
        self,
        model: str,
        messages: Sequence[pb.Message],
        sampling: pb.SamplingOptions,
        template: pb.PromptTemplate | None = None,
    ) -> Iterable[pb.ChatResponse]: ...

    def score(
        self,
        model: str,
        messages: Sequence[pb.Message],
        template: pb.PromptTemplate | None = None,
    ) -> pb.ScoreResponse: ...


class Asker:
    """One model, asked greedily for answers of at most `max_tokens` tokens."""

    def __init__(self, chatter: Chatter, model: str, max_tokens: int) -> None:
        self._chatter = chatter
        self._model = model
        # Loops are measured here, not ended.
        self._greedy = pb.SamplingOptions(temperature=0, max_tokens=max_tokens, loop_guard=False)

    def measure(
        self,
        prompts: Sequence[Prompt],
        rows: Sequence[AnsweredQuestion],
        questions: Sequence[Turns],
    ) -> list[Measured]:
        """Each prompt with its loss on the rows' answers and its answers to the questions.

        Raises InvalidRequestError where no question fits under every prompt.
        """
        templates = [pb.PromptTemplate(**dict(prompt.fields)) for prompt in prompts]
        losses = self._losses(templates, rows)
        output.say(f"Asking {len(questions)} questions under {len(prompts)} prompts ...")
        asked = _at_once(lambda turns: self._answers(turns, templates), questions)
        answers = [one for one in asked if one is not None]
        if not answers:
            raise InvalidRequestError(
                "No question fits into the model's context under every prompt.",
                "Leave out the prompt that is too long.",
            )
        return [
            Measured(prompt, loss, under)
            for prompt, loss, under in zip(prompts, losses, zip(*answers, strict=True), strict=True)
        ]

    def _losses(
        self, templates: Sequence[pb.PromptTemplate], rows: Sequence[AnsweredQuestion]
    ) -> list[float | None]:
        """Nats per answer token under each template; None without rows."""
        if not rows:
            return [None] * len(templates)
        output.say(f"Scoring {len(rows)} answers under {len(templates)} prompts ...")
        scored = _at_once(lambda row: self._scores(row, templates), rows)
        fitting = [scores for scores in scored if scores is not None]
        if not fitting:
            return [None] * len(templates)
        return [
            -sum(score.log_likelihood for score in under) / sum(s.answer_tokens for s in under)
            for under in zip(*fitting, strict=True)
        ]

    def _scores(
        self, row: AnsweredQuestion, templates: Sequence[pb.PromptTemplate]
    ) -> list[pb.ScoreResponse] | None:
        messages = _messages((*row.asked, Message("assistant", row.answer)))
        try:
            return [self._chatter.score(self._model, messages, one) for one in templates]
        except PromptTooLongError as error:
            output.say(f"An answer is left out: {error.message}")
            return None

    def _answers(self, turns: Turns, templates: Sequence[pb.PromptTemplate]) -> list[Answer] | None:
        try:
            return [self._answer(turns, template) for template in templates]
        except PromptTooLongError as error:
            output.say(f"A question is left out: {error.message}")
            return None

    def _answer(self, turns: Turns, template: pb.PromptTemplate) -> Answer:
        responses = list(self._chatter.chat(self._model, _messages(turns), self._greedy, template))
        text = "".join(response.text for response in responses)
        finish = responses[-1].finish
        stopped = finish.reason == pb.FINISH_REASON_STOP
        return Answer(
            question=turns[-1].text,
            answer=text,
            tokens=finish.completion_tokens,
            stopped=stopped,
            repetition=repetition(pieces(text)),
            looping=ends_in_loop(text, is_cut=not stopped),
        )


def _messages(turns: Turns) -> list[pb.Message]:
    return [
        pb.Message(role=_ROLES[turn.role], content=turn.content, input=turn.input) for turn in turns
    ]


def _at_once(call: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The calls' results in order; the first error ends them all."""
    with ThreadPoolExecutor(_CALLS) as threads:
        futures = [threads.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        except CorralError:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
