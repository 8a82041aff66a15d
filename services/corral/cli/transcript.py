"""Conversations as rows that can be trained on: OpenAI's chat format, a line each.

Knows nothing of how a conversation went.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from corral.errors import InvalidRequestError
from corral.v1 import inference_pb2

_ROLES = {
    inference_pb2.ROLE_SYSTEM: "system",
    inference_pb2.ROLE_USER: "user",
    inference_pb2.ROLE_ASSISTANT: "assistant",
}


def write_rows(path: Path, conversations: Sequence[Sequence[inference_pb2.Message]]) -> None:
    """Write a new file. Raises InvalidRequestError where there is one already, or none can be."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(_row(messages) + "\n" for messages in conversations)
    except FileExistsError:
        raise InvalidRequestError(f"{path} is there already.", "Name another file.") from None
    except OSError as error:
        raise InvalidRequestError(f"{path} can't be written: {error.strerror}.") from None


def _row(messages: Sequence[inference_pb2.Message]) -> str:
    plain = [{"role": _ROLES[turn.role], "content": turn.content} for turn in messages]
    return json.dumps({"messages": plain}, ensure_ascii=False)
