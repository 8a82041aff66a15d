"""From a decoded row to a conversation, or to what is wrong with it."""

from __future__ import annotations

import pytest

from corral.data.conversation import Message
from corral.data.raw_rows import RawRow
from corral.data.rows import parse_row, row_format


def chat(*roles: str, **extra: object) -> dict[str, object]:
    return {"messages": [{"role": role, "content": "text", **extra} for role in roles]}


def parsed(value: object) -> tuple[Message, ...]:
    conversation, problems = parse_row(RawRow(0, 1, value))
    assert problems == []
    assert conversation is not None
    return conversation.messages


def faults(value: object) -> list[tuple[str, str]]:
    conversation, problems = parse_row(RawRow(4, 9, value))
    assert conversation is None
    assert all((problem.row, problem.line) == (4, 9) for problem in problems)
    return [(problem.field, problem.code) for problem in problems if problem.severity == "error"]


@pytest.mark.parametrize("further", [{}, {"input": ""}, {"input": None}, {"input": "  "}])
def test_alpaca_without_input(further: dict[str, object]) -> None:
    row = {"instruction": "Ask.", "output": "Answer."} | further
    assert parsed(row) == (Message("user", "Ask."), Message("assistant", "Answer."))
    assert row_format(row) == "alpaca"


def test_alpaca_with_input() -> None:
    row = {"instruction": "Ask.", "input": "Context.", "output": "Answer."}
    assert parsed(row)[0] == Message("user", "Ask.", "Context.")


def test_prompt_and_completion() -> None:
    row = {"prompt": "Ask.", "completion": "Answer."}
    assert parsed(row) == (Message("user", "Ask."), Message("assistant", "Answer."))
    assert row_format(row) == "prompt_completion"


def test_messages_of_several_turns_with_a_system_message() -> None:
    row = chat("system", "user", "assistant", "user", "assistant")
    assert [message.role for message in parsed(row)] == [m["role"] for m in row["messages"]]
    assert row_format(row) == "messages"


def test_a_weight_of_0_makes_an_answer_context() -> None:
    row = chat("user", "assistant", "user", "assistant")
    row["messages"][1]["weight"] = 0
    assert [m.trained for m in parsed(row)] == [True, False, True, True]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "Ask."}, [("output", "missing")]),
        ({"instruction": 3, "output": ""}, [("instruction", "type"), ("output", "empty")]),
        ({"instruction": "a", "input": [], "output": "b"}, [("input", "type")]),
        ({"prompt": "a"}, [("completion", "missing")]),
        ({"prompt": "a", "completion": None}, [("completion", "type")]),
        ({"question": "a"}, [("", "format")]),
        (["a"], [("", "format")]),
        (None, [("", "format")]),
        ({"messages": "a"}, [("messages", "type")]),
        ({"messages": []}, [("messages", "empty")]),
        ({"messages": ["a"]}, [("messages[0]", "type")]),
        (chat("user", "robot"), [("messages[1].role", "role")]),
        (chat("user"), [("messages[0].role", "order")]),
        (chat("assistant"), [("messages[0].role", "order")]),
        (chat("user", "user", "assistant"), [("messages[1].role", "order")]),
        (chat("user", "system", "assistant"), [("messages[1].role", "order")]),
        ({"messages": [{"content": "a"}]}, [("messages[0].role", "missing")]),
        (chat("user", "assistant", weight=1), [("messages[0].weight", "weight")]),
        (
            {"messages": [*chat("user")["messages"], *chat("assistant", weight=0)["messages"]]},
            [("messages", "weight")],
        ),
        (
            {"messages": [*chat("user")["messages"], *chat("assistant", weight=0.5)["messages"]]},
            [("messages[1].weight", "weight")],
        ),
        ({"instruction": "\ud800", "output": "b"}, [("instruction", "text")]),
    ],
)
def test_what_is_wrong_is_named_by_field(row: object, expected: list[tuple[str, str]]) -> None:
    assert faults(row) == expected


def test_an_unknown_key_is_a_warning_and_the_row_is_used() -> None:
    conversation, problems = parse_row(RawRow(0, 1, {"instruction": "a", "output": "b", "id": 17}))
    assert conversation is not None
    assert [(p.field, p.code, p.severity) for p in problems] == [("id", "unknown_key", "warning")]


def test_a_long_value_is_cut_in_the_excerpt() -> None:
    _, problems = parse_row(RawRow(0, 1, {"instruction": ["x\n" * 500], "output": "b"}))
    assert len(problems[0].excerpt) < 80
    assert "\n" not in problems[0].excerpt


@pytest.mark.parametrize(
    ("weight", "shown"),
    [("1", '"1"'), (None, "null"), (float("nan"), "NaN"), (2, "2"), (True, "true")],
)
def test_an_excerpt_has_the_form_of_the_file(weight: object, shown: str) -> None:
    row = {"messages": [*chat("user")["messages"], *chat("assistant", weight=weight)["messages"]]}
    _, [problem] = parse_row(RawRow(0, 1, row))
    assert str(problem).endswith(f"must be 0 or 1. [{shown}]")


def test_half_of_a_surrogate_pair_is_shown_by_its_escape() -> None:
    _, [problem] = parse_row(RawRow(0, 1, {"instruction": "a\ud800é", "output": "b"}))
    assert problem.excerpt == '"a\\ud800é"'


def test_what_is_missing_has_no_excerpt_and_what_is_empty_has() -> None:
    _, problems = parse_row(RawRow(0, 1, {"instruction": ""}))
    assert [problem.excerpt for problem in problems] == ['""', ""]
