"""/v1/completions and /v1/responses: what is asked arrives, what is answered has OpenAI's shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.gateway_builders import MODEL, Gateway, ScriptedInference, events_of, gateway

from corral.errors import UnavailableError
from corral.v1 import inference_pb2 as pb

COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"


@pytest.mark.parametrize(
    ("prompt", "texts", "tokens"),
    [
        ("a", ["a"], [[]]),
        (["a", "b"], ["a", "b"], [[], []]),
        ([1, 2], [""], [[1, 2]]),
        ([[1, 2], [3]], ["", ""], [[1, 2], [3]]),
    ],
)
async def test_prompts_come_as_text_or_as_tokens(
    door: Gateway, prompt: Any, texts: list[str], tokens: list[list[int]]
) -> None:
    answer = await door.http.post(COMPLETIONS, json={"model": MODEL, "prompt": prompt})

    assert answer.status_code == 200
    asked = door.inference.requests
    assert sorted(one.prompt for one in asked) == sorted(texts)
    assert sorted(list(one.prompt_tokens) for one in asked) == sorted(tokens)
    assert answer.json()["usage"]["prompt_tokens"] == 7 * len(texts)
    assert asked[0].sampling.max_tokens == 16


async def test_an_echo_stands_before_the_answer_with_its_likelihoods(door: Gateway) -> None:
    asked = {"model": MODEL, "prompt": "one two", "echo": True, "logprobs": 1}
    (choice,) = (await door.http.post(COMPLETIONS, json=asked)).json()["choices"]

    assert choice["text"] == "one twoHello there"
    assert choice["logprobs"] == {
        "tokens": ["one", "two", "Hello", " there"],
        "token_logprobs": [None, -0.5, -0.5, -0.5],
        "top_logprobs": [None, {"two": -0.5}, {"Hello": -0.5}, {" there": -0.5}],
        "text_offset": [0, 3, 6, 11],
    }


@pytest.mark.parametrize("stream", [True, False])
async def test_the_prompt_alone_is_told_with_max_tokens_0(door: Gateway, stream: bool) -> None:
    asked = {"model": MODEL, "prompt": "one two", "echo": True, "max_tokens": 0}
    answer = await door.http.post(COMPLETIONS, json={**asked, "stream": stream})
    if stream:
        chunks = events_of(answer.text)[:-1]
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    else:
        text = answer.json()["choices"][0]["text"]
        assert answer.json()["usage"]["completion_tokens"] == 0
    assert text == "one two"


async def test_a_streamed_completion_counts_its_offsets_on(door: Gateway) -> None:
    asked = {"model": MODEL, "prompt": "x", "stream": True, "logprobs": 0}
    *chunks, mark = events_of((await door.http.post(COMPLETIONS, json=asked)).text)

    assert mark == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["Hello", " there", ""]
    assert [choice["logprobs"]["text_offset"] for choice in choices[:2]] == [[0], [5]]
    assert choices[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": []}, "prompt"),
    ],
)
async def test_what_completions_can_not_do_is_refused_by_name(
    door: Gateway, fields: dict[str, Any], param: str
) -> None:
    answer = await door.http.post(COMPLETIONS, json={"model": MODEL, "prompt": "x", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


# ---------------------------------------------------------------- responses


async def test_a_response_has_its_message_and_its_usage(door: Gateway) -> None:
    asked = {"model": MODEL, "input": "Hello?", "instructions": "Be kind.", "metadata": {"a": "b"}}
    answer = (await door.http.post(RESPONSES, json=asked)).json()

    (message,) = answer["output"]
    assert message["content"][0]["text"] == "Hello there"
    assert (answer["status"], answer["store"]) == ("completed", False)
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert answer["usage"]["total_tokens"] == 9
    assert answer["metadata"] == {"a": "b"}
    (request,) = door.inference.requests
    assert list(request.messages) == [
        pb.Message(role=pb.ROLE_SYSTEM, content="Be kind."),
        pb.Message(role=pb.ROLE_USER, content="Hello?"),
    ]


async def test_an_answer_can_be_sent_back_as_it_came(door: Gateway) -> None:
    first = (await door.http.post(RESPONSES, json={"model": MODEL, "input": "Hello?"})).json()
    asked = [
        {"role": "user", "content": "Hello?"},
        *first["output"],
        {"role": "user", "content": "?"},
    ]
    again = await door.http.post(RESPONSES, json={"model": MODEL, "input": asked})

    assert again.status_code == 200
    assert door.inference.requests[1].messages[1] == pb.Message(
        role=pb.ROLE_ASSISTANT, content="Hello there"
    )


async def test_a_response_that_is_cut_is_incomplete(tmp_path: Path) -> None:
    cut = ScriptedInference(reason=pb.FINISH_REASON_LENGTH)
    async with gateway(tmp_path, cut) as door:
        answer = (await door.http.post(RESPONSES, json={"model": MODEL, "input": "x"})).json()
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_streamed_response_is_numbered_named_events(door: Gateway) -> None:
    asked = {"model": MODEL, "input": "x", "stream": True}
    text = (await door.http.post(RESPONSES, json=asked)).text

    events = events_of(text)
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event")]
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [name.removeprefix("response.") for name in names] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello there"


async def test_a_streamed_response_that_breaks_off_says_so(tmp_path: Path) -> None:
    breaks = ScriptedInference(breaks=UnavailableError("The server shuts down."))
    async with gateway(tmp_path, breaks) as door:
        asked = {"model": MODEL, "input": "x", "stream": True}
        last = events_of((await door.http.post(RESPONSES, json=asked)).text)[-1]
    assert last["type"] == "error"
    assert last["message"].startswith("The server shuts down.")


async def test_a_form_of_json_reaches_the_model_as_its_schema(door: Gateway) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    named = {"type": "json_schema", "name": "n", "schema": schema}
    await door.http.post(RESPONSES, json={"model": MODEL, "input": "x", "text": {"format": named}})
    question = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    for form in (
        {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        {"type": "json_object"},
    ):
        await door.http.post("/v1/chat/completions", json={**question, "response_format": form})

    found = [json.loads(one.sampling.json_schema) for one in door.inference.requests]
    assert found == [schema, schema, {"type": "object"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"background": True}, "background"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
    ],
)
async def test_what_responses_can_not_do_is_refused_by_name(
    door: Gateway, fields: dict[str, Any], param: str
) -> None:
    answer = await door.http.post(RESPONSES, json={"model": MODEL, "input": "x", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
