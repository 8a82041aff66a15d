"""Reads one row, in any of three formats, into a conversation, or says what is wrong with it.

    alpaca             {"instruction": ..., "input"?: ..., "output": ...}
    prompt_completion  {"prompt": ..., "completion": ...}
    messages           {"messages": [{"role": ..., "content": ..., "weight"?: 0 or 1}, ...]}

Knows nothing of files, templates or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, cast, get_args

from corral.data.conversation import Conversation, Message, Role
from corral.data.problems import Problem, Severity, value_excerpt
from corral.data.raw_rows import RawRow

RowFormat = Literal["alpaca", "prompt_completion", "messages"]

# JSON can spell half of a surrogate pair, which is no character and which no tokenizer takes.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Where a problem has no value to show; null is one.
_NO_VALUE = object()


def row_format(value: object) -> RowFormat | None:
    """Which format a row's keys belong to, whether or not the rest of it is right."""
    if not isinstance(value, dict):
        return None
    if "messages" in value:
        return "messages"
    if "instruction" in value or "output" in value:
        return "alpaca"
    if "prompt" in value or "completion" in value:
        return "prompt_completion"
    return None


def parse_row(raw: RawRow) -> tuple[Conversation | None, list[Problem]]:
    """The row's conversation, or None where a problem of severity error kept it from being one.

    All problems of the row are named, not just the first.
    """
    if raw.problem is not None:
        return None, [raw.problem]
    found = _Findings(raw)
    match row_format(raw.value):
        case "alpaca":
            messages = _alpaca(cast("dict[str, object]", raw.value), found)
        case "prompt_completion":
            messages = _prompt_completion(cast("dict[str, object]", raw.value), found)
        case "messages":
            messages = _messages(cast("dict[str, object]", raw.value), found)
        case None:
            messages = ()
            found.add("", "format", _not_a_row(raw.value), raw.value)
    usable = not any(problem.severity == "error" for problem in found.problems)
    return (Conversation(messages) if usable else None), found.problems


class _Findings:
    """Collects the problems of one row."""

    def __init__(self, raw: RawRow) -> None:
        self._raw = raw
        self.problems: list[Problem] = []

    def add(
        self,
        field: str,
        code: str,
        message: str,
        value: object = _NO_VALUE,
        severity: Severity = "error",
    ) -> None:
        row, line = self._raw.index, self._raw.line
        shown = "" if value is _NO_VALUE else value_excerpt(value)
        self.problems.append(Problem(row, line, field, code, message, shown, severity))

    def text(self, fields: Mapping[str, object], key: str, path: str = "") -> str:
        """The non-empty text of a field; empty, and a problem noted, where there is none."""
        field = path + key
        if key not in fields:
            self.add(field, "missing", "is missing.")
            return ""
        value = fields[key]
        if not isinstance(value, str):
            self.add(field, "type", f"must be text, not {_kind(value)}.", value)
            return ""
        if not value.strip():
            self.add(field, "empty", "is empty.", value)
        elif _SURROGATE.search(value):
            self.add(field, "text", "holds half of a surrogate pair.", value)
        return value

    def optional_text(self, fields: Mapping[str, object], key: str) -> str:
        """The text of a field that may be absent, null or empty."""
        value = fields.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            return ""
        return self.text(fields, key)

    def unknown_keys(
        self, fields: Mapping[str, object], known: Collection[str], path: str = ""
    ) -> None:
        for key in fields:
            if key not in known:
                self.add(path + key, "unknown_key", "is not used.", fields[key], "warning")


def _alpaca(row: dict[str, object], found: _Findings) -> tuple[Message, ...]:
    found.unknown_keys(row, ("instruction", "input", "output"))
    instruction = found.text(row, "instruction")
    further = found.optional_text(row, "input")
    output = found.text(row, "output")
    return Message("user", instruction, further), Message("assistant", output)


def _prompt_completion(row: dict[str, object], found: _Findings) -> tuple[Message, ...]:
    found.unknown_keys(row, ("prompt", "completion"))
    prompt, completion = found.text(row, "prompt"), found.text(row, "completion")
    return Message("user", prompt), Message("assistant", completion)


def _messages(row: dict[str, object], found: _Findings) -> tuple[Message, ...]:
    found.unknown_keys(row, ("messages",))
    entries = row["messages"]
    if not isinstance(entries, list):
        found.add("messages", "type", f"must be a list, not {_kind(entries)}.", entries)
        return ()
    if not entries:
        found.add("messages", "empty", "is empty.")
        return ()
    messages = [_message(entry, f"messages[{i}]", found) for i, entry in enumerate(entries)]
    whole = [message for message in messages if message is not None]
    # The order of messages of which one has no role tells nothing.
    if len(whole) == len(messages):
        _check_order(whole, found)
    return tuple(whole)


def _message(entry: object, path: str, found: _Findings) -> Message | None:
    if not isinstance(entry, dict):
        found.add(path, "type", f"must be an object, not {_kind(entry)}.", entry)
        return None
    found.unknown_keys(entry, ("role", "content", "weight"), f"{path}.")
    role = found.text(entry, "role", f"{path}.")
    content = found.text(entry, "content", f"{path}.")
    if role not in get_args(Role):
        if role.strip():
            known = ", ".join(get_args(Role))
            found.add(f"{path}.role", "role", f"is none of {known}.", role)
        return None
    weight = entry.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        found.add(f"{path}.weight", "weight", "must be 0 or 1.", weight)
    elif "weight" in entry and role != "assistant":
        found.add(f"{path}.weight", "weight", "only an assistant's message has one.", weight)
    return Message(cast(Role, role), content, trained=role != "assistant" or weight != 0)


def _check_order(messages: list[Message], found: _Findings) -> None:
    start = 1 if messages[0].role == "system" else 0
    for i, message in enumerate(messages[start:], start):
        expected = "user" if (i - start) % 2 == 0 else "assistant"
        if message.role != expected:
            found.add(f"messages[{i}].role", "order", f"must be {expected} here.", message.role)
            return
    last = len(messages) - 1
    if messages[last].role != "assistant":
        role = messages[last].role
        found.add(f"messages[{last}].role", "order", "the last must be the assistant's.", role)
    elif not any(message.trained for message in messages if message.role == "assistant"):
        found.add("messages", "weight", "no answer is left to train on: all weights are 0.")


def _not_a_row(value: object) -> str:
    if not isinstance(value, dict):
        return f"must be an object, not {_kind(value)}."
    return "has none of the fields instruction and output, prompt and completion, or messages."


def _kind(value: object) -> str:
    """The JSON word for a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
