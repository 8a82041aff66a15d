"""What callers of a client write, as messages: plain Python in, requests out.

Checked here where a server would only refuse it later. Knows nothing of channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from corral.errors import InvalidRequestError
from corral.names import DATASET_ID_PATTERN
from corral.sampling import parse_sampling
from corral.spec import TrainingSpec, parse_spec
from corral.v1 import inference_pb2, trainer_pb2

_ROLES = {
    "system": inference_pb2.ROLE_SYSTEM,
    "user": inference_pb2.ROLE_USER,
    "assistant": inference_pb2.ROLE_ASSISTANT,
}


class Message(TypedDict):
    """A turn of a conversation; `input` is a user's further context, Alpaca's field."""

    role: Literal["system", "user", "assistant"]
    content: str
    input: NotRequired[str]


class Sampling(TypedDict, total=False):
    """How an answer is drawn, see corral.sampling; what is not given is the server's to choose."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    stop: Sequence[str]
    logit_bias: Mapping[int, float]
    loop_guard: bool
    # A JSON schema, as text or as what json.loads makes of it: the answer is JSON of it.
    json_schema: str | Mapping[str, Any]


# A question, or the turns up to it.
Conversation: TypeAlias = str | Sequence[Message]


def checked_spec(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a training spec to send: those that were given, a folder's path made absolute.

    Raises SpecError, naming each field at fault.
    """
    spec = {name: value for name, value in fields.items() if value is not None}
    if str(spec.get("model", "")).startswith(("/", "./", "../", "~")):
        # The server's working directory is another one.
        spec["model"] = str(Path(spec["model"]).expanduser().resolve())
    parse_spec(spec)
    return spec


def dataset_id_of(data: object) -> str | None:
    """The id where an id is given, None where it is a path. Raises nothing."""
    text = str(data)
    return text if DATASET_ID_PATTERN.match(text) and not Path(text).exists() else None


def job_state(name: str) -> str:
    """`JOB_STATE_RUNNING` for "running" or "RUNNING". Raises InvalidRequestError."""
    known = trainer_pb2.JobState.DESCRIPTOR.values_by_name
    value = known.get(f"JOB_STATE_{name.upper()}")
    if value is None or value.number == 0:
        names = ", ".join(key.removeprefix("JOB_STATE_").lower() for key in list(known)[1:])
        raise InvalidRequestError(f"There is no job state {name!r:.40}.", f"Known: {names}.")
    return str(value.name)


def chat_request(
    model: str,
    conversation: Conversation,
    sampling: Mapping[str, Any],
    *,
    template: str | None,
    preamble: str | None,
    drop_oldest_turns: bool,
) -> inference_pb2.ChatRequest:
    """Raises InvalidRequestError for a role or a sampling option that there is not."""
    given = {name: value for name, value in sampling.items() if value is not None}
    if isinstance(given.get("json_schema"), Mapping):
        given["json_schema"] = json.dumps(given["json_schema"])
    parse_sampling({**given, "stop": tuple(given.get("stop", ()))})
    replaced = None
    if template is not None or preamble is not None:
        replaced = inference_pb2.PromptTemplate(
            template=template or TrainingSpec.model_fields["template"].default, preamble=preamble
        )
    return inference_pb2.ChatRequest(
        model=model,
        messages=_messages(conversation),
        sampling=inference_pb2.SamplingOptions(**given),
        prompt_template=replaced,
        drop_oldest_turns=drop_oldest_turns,
    )


def _messages(conversation: Conversation) -> list[inference_pb2.Message]:
    turns: Sequence[Message] = (
        [{"role": "user", "content": conversation}]
        if isinstance(conversation, str)
        else conversation
    )
    for turn in turns:
        if turn.get("role") not in _ROLES:
            raise InvalidRequestError(
                f"{turn.get('role')!r:.40} is not a role.", f"Roles are {', '.join(_ROLES)}."
            )
    return [
        inference_pb2.Message(
            role=_ROLES[turn["role"]], content=turn["content"], input=turn.get("input", "")
        )
        for turn in turns
    ]
