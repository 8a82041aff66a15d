"""/v1/chat/completions: what is asked arrives, what is answered has OpenAI's shape."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.conditions import until
from tests.gateway_builders import MODEL, Gateway, ScriptedInference, events_of, gateway

from corral.errors import BusyError, PromptTooLongError, UnavailableError
from corral.v1 import inference_pb2 as pb

PATH = "/v1/chat/completions"


def question(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}], **fields}


async def test_an_answer_has_its_text_its_reason_and_its_usage(door: Gateway) -> None:
    answer = (await door.http.post(PATH, json=question())).json()

    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello there", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


async def test_all_that_is_asked_for_reaches_the_model(door: Gateway) -> None:
    asked = question(
        max_completion_tokens=5,
        temperature=0.1,
        top_p=0.2,
        seed=3,
        stop="\n",
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"12": -100},
        top_k=7,
        logprobs=True,
        top_logprobs=2,
    )
    await door.http.post(PATH, json=asked)

    (request,) = door.inference.requests
    assert request.sampling == pb.SamplingOptions(
        max_tokens=5,
        temperature=0.1,
        top_p=0.2,
        seed=3,
        stop=["\n"],
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={12: -100},
        top_k=7,
        logprobs=2,
    )


async def test_roles_and_parts_become_messages(door: Gateway) -> None:
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d", "input": "e"},
    ]
    await door.http.post(PATH, json=question(messages=messages))

    (request,) = door.inference.requests
    assert list(request.messages) == [
        pb.Message(role=pb.ROLE_SYSTEM, content="Be short."),
        pb.Message(role=pb.ROLE_USER, content="ab"),
        pb.Message(role=pb.ROLE_ASSISTANT, content="c"),
        pb.Message(role=pb.ROLE_USER, content="d", input="e"),
    ]


async def test_several_answers_have_seeds_of_their_own(door: Gateway) -> None:
    answer = (await door.http.post(PATH, json=question(n=3, seed=2**63 - 1))).json()

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == 7
    assert answer["usage"]["completion_tokens"] == 6
    seeds = {request.sampling.seed for request in door.inference.requests}
    assert seeds == {2**63 - 1, -(2**63), -(2**63) + 1}


async def test_likelihoods_come_with_the_bytes_of_their_tokens(door: Gateway) -> None:
    answer = (await door.http.post(PATH, json=question(logprobs=True))).json()

    first, _ = answer["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"]) == ("Hello", -0.5)
    assert bytes(first["bytes"]) == b"Hello"


async def test_a_stream_is_chunks_with_one_id_then_the_usage_then_the_mark(door: Gateway) -> None:
    asked = question(stream=True, stream_options={"include_usage": True})
    answer = await door.http.post(PATH, json=asked)

    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, mark = events_of(answer.text)
    assert mark == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 9)


async def test_a_client_that_leaves_ends_its_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, ScriptedInference(endless=True)) as door:
        for fields in ({"stream": True}, {"stream": True, "n": 2}):
            left = door.inference.left
            begun = len(door.inference.requests)
            async with door.http.stream("POST", PATH, json=question(**fields)) as got:
                await anext(got.aiter_lines())
            calls = len(door.inference.requests) - begun
            await until(lambda left=left, calls=calls: door.inference.left == left + calls)


async def test_a_client_that_leaves_before_the_answer_ends_it_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, ScriptedInference(endless=True)) as door:
        waiting = asyncio.create_task(door.http.post(PATH, json=question()))
        await until(lambda: door.inference.requests)
        waiting.cancel()
        await until(lambda: door.inference.left == 1)


async def test_the_clients_patience_becomes_the_deadline(door: Gateway) -> None:
    headers = {"x-stainless-read-timeout": "20"}
    await door.http.post(PATH, json=question(), headers=headers)
    await door.http.post(PATH, json=question())

    first, second = door.inference.seconds_left
    assert 0 < first <= 20
    assert 20 < second < 610


@pytest.mark.parametrize(
    ("refusal", "status", "code", "retry"),
    [
        (BusyError("The queue is full."), 429, "busy", True),
        (UnavailableError("The model hub does not answer."), 503, "unavailable", True),
        (PromptTooLongError("The prompt has 9 tokens."), 400, "context_length_exceeded", False),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_has_its_status_in_a_stream_too(
    tmp_path: Path, refusal: Any, status: int, code: str, retry: bool, stream: bool
) -> None:
    async with gateway(tmp_path, ScriptedInference(refusal=refusal)) as door:
        answer = await door.http.post(PATH, json=question(stream=stream))

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert refusal.message in answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) is retry


async def test_an_error_in_the_middle_of_a_stream_is_told_in_it(tmp_path: Path) -> None:
    breaks = UnavailableError("The server shuts down.")
    async with gateway(tmp_path, ScriptedInference(breaks=breaks)) as door:
        answer = await door.http.post(PATH, json=question(stream=True))

    assert answer.status_code == 200
    last = events_of(answer.text)[-1]
    assert last["error"]["message"].startswith("The server shuts down.")


async def test_an_answer_that_only_repeated_itself_was_cut(tmp_path: Path) -> None:
    loop = ScriptedInference(reason=pb.FINISH_REASON_LOOP)
    async with gateway(tmp_path, loop) as door:
        answer = (await door.http.post(PATH, json=question())).json()

    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["corral"] == {"finish_reason": "loop"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
        ({"foo": 1}, "foo", "unknown_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"max_tokens": 2**31}, "max_tokens", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_request"),
        (
            {"messages": [{"role": "user", "content": "x", "name": "y"}]},
            "name",
            "unsupported_parameter",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].role",
            "invalid_value",
        ),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_not_supported_is_refused_by_name(
    one_door: Gateway, fields: dict[str, Any], param: str, code: str
) -> None:
    answer = await one_door.http.post(PATH, json=question(**fields))

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert not one_door.inference.requests


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "auto"},
        {"store": False, "service_tier": "auto", "parallel_tool_calls": True},
        {"user": "someone", "safety_identifier": "x", "prompt_cache_key": "y"},
        {"response_format": {"type": "text"}},
    ],
)
async def test_what_asks_for_nothing_is_taken(door: Gateway, fields: dict[str, Any]) -> None:
    assert (await door.http.post(PATH, json=question(**fields))).status_code == 200
