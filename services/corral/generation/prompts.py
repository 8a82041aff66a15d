"""From a chat's messages to the token ids that the model was trained to answer.

Knows nothing of tensors, sampling or requests; the rendering itself is the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral.data.conversation import Conversation, Message
from corral.data.segments import Segment
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel


def chat_prompt(model: LoadedModel, messages: Sequence[Message]) -> list[int]:
    """Token ids of the messages in the model's own template, up to where its answer begins.

    Raises InvalidRequestError for messages that nobody could answer to, TemplateError for those
    that the template has no place for.
    """
    check_messages(messages)
    segments = model.template.render_prompt(Conversation(tuple(messages)))
    return model.tokenizer.encode_prompt(segments)


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
