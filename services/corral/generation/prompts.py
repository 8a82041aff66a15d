"""From a chat's messages to the token ids that the model was trained to answer, or to score.

Knows nothing of tensors, sampling or requests; the rendering itself is the template's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from corral.data.conversation import Conversation, Message
from corral.data.segments import Segment
from corral.data.tokenizing import Encoded
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.data.templates import PromptTemplate
    from corral.generation.loading import LoadedModel


def chat_prompt(
    model: LoadedModel, messages: Sequence[Message], template: PromptTemplate | None = None
) -> list[int]:
    """Token ids of the messages in the model's own template, or in another one, up to where its
    answer begins.

    Raises InvalidRequestError for messages that nobody could answer to, TemplateError for those
    that the template has no place for.
    """
    check_messages(messages)
    segments = (template or model.template).render_prompt(Conversation(tuple(messages)))
    return model.tokenizer.encode_prompt(segments)


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt's token ids, and how many of the oldest turns had to be left out of it."""

    ids: list[int]
    dropped_turns: int = 0


def fitted_prompt(
    model: LoadedModel,
    messages: Sequence[Message],
    template: PromptTemplate | None = None,
    *,
    answer_tokens: int,
) -> FittedPrompt:
    """Like `chat_prompt`, without the oldest turns where they leave too little room for an answer of
    `answer_tokens`, or of half the context where that is less.

    A turn is a question with its answer; the system message and the last question always stay.
    Raises as `chat_prompt` does.
    """
    check_messages(messages)
    start = 1 if messages[0].role == "system" else 0
    questions = [at for at, message in enumerate(messages) if message.role == "user"]
    room = model.context_length - min(answer_tokens, model.context_length // 2)

    def without(turns: int) -> list[int]:
        kept = messages[questions[turns] :] if turns else messages[start:]
        return chat_prompt(model, [*messages[:start], *kept], template)

    if len(whole := without(0)) <= room:
        return FittedPrompt(whole)
    turns = range(1, len(questions))
    dropped = 1 + bisect_left(turns, True, key=lambda count: len(without(count)) <= room)
    dropped = min(dropped, len(questions) - 1)
    return FittedPrompt(without(dropped), dropped)


def answered_ids(
    model: LoadedModel, messages: Sequence[Message], template: PromptTemplate | None = None
) -> Encoded:
    """Token ids of messages that end in an answer, which alone is marked as trained.

    Whatever the template, the answer ends as in the model's own: its tokens are the same after any
    prompt. Raises as `chat_prompt` does.
    """
    check_answered(messages)
    *prompt, answer = (template or model.template).render_training(Conversation(tuple(messages)))
    segments = [replace(piece, trained=False, answer=_is_answer(piece)) for piece in prompt]
    segments.append(replace(answer, trained=True, end=model.template.end_token))
    return model.tokenizer.encode_segments(segments)


def _is_answer(piece: Segment) -> bool:
    return piece.answer or piece.trained


def check_answered(messages: Sequence[Message]) -> None:
    """Raises InvalidRequestError unless the last message is an answer to those before it."""
    if not messages or messages[-1].role != "assistant":
        raise InvalidRequestError(
            "The last message is not the assistant's.", "End with the answer that is scored."
        )
    check_messages(messages[:-1])


def check_messages(messages: Sequence[Message]) -> None:
    """Raises InvalidRequestError unless the last message is a user's and says something, and a
    system message, if any, is the first.
    """
    if not messages:
        raise InvalidRequestError("There are no messages.", "Send at least one of role user.")
    for index, message in enumerate(messages):
        if message.role == "system" and index > 0:
            raise InvalidRequestError(
                f"messages[{index}] is a system message.", "Only the first message may be one."
            )
    last = messages[-1]
    if last.role != "user":
        raise InvalidRequestError(
            f"The last of the {len(messages)} messages has role {last.role}.",
            "End with a user's message, which the model then answers.",
        )
    if not last.text.strip():
        raise InvalidRequestError("The last message is empty.", "Write something to answer to.")


def raw_prompt(model: LoadedModel, text: str) -> list[int]:
    """Token ids of a text that is continued as it is, without any template. Names of special tokens
    in it are plain characters.
    """
    return model.tokenizer.encode_prompt([Segment(text, trained=False)])
