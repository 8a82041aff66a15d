"""Renders chat templates written in Jinja, and finds out which text is whose.

Each message's text is rendered as a marker first, so that the template's own text (which may name
special tokens) and the users' text (which may not) come apart without guessing, and an answer's
place is known exactly. The real rendering is then held against it: a template that changes texts in
a way that can't be followed is refused instead of trained on with a wrong mask.

The environment and its functions are transformers' (utils/chat_template_utils.py), so that a model's
own template renders as it does there, without `strftime_now`: a prompt must not change with the day.
Knows nothing of tokenizers or files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from corral.data.conversation import Message
from corral.data.segments import Segment, joined
from corral.errors import TemplateError

MAX_RENDERED_CHARACTERS = 8 * 1024 * 1024
_MAX_REPETITIONS = 10_000

# Private use characters: no tokenizer knows them, and no template writes them.
_MARKER = re.compile("\ue000(\\d+)\ue001")


def _marker(index: int) -> str:
    return f"\ue000{index}\ue001"


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template with all that it needs to render: no file, no tokenizer."""

    # How errors call it.
    name: str
    source: str
    # bos_token, eos_token, ... as the template sees them.
    tokens: tuple[tuple[str, str], ...] = ()
    end: str | None = None

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """The rendering in pieces, up to the end of the last assistant message.

        Raises TemplateError where the template does not render, leaves an answer out, or where the
        prompt for an answer is not a prefix of the whole.
        """
        whole = self._render(_marked(messages), prompt=False)
        pieces = self._pieces(messages, whole)
        answers = {i for i, message in enumerate(messages) if message.role == "assistant"}
        seen = [index for index, _ in pieces if index in answers]
        if seen != sorted(answers):
            raise self._error("does not show each of the assistant's messages once, in order")
        self._check_prefixes(messages, answers, whole)
        segments = [
            Segment(text, trained=False, special=True)
            if index is None
            else Segment(text, messages[index].trained, answer=True, end=self.end)
            if index in answers
            else Segment(text, trained=False)
            for index, text in pieces
        ]
        last_answer = max(at for at, segment in enumerate(segments) if segment.answer)
        return joined(segments[: last_answer + 1])

    def text_after_answer(self) -> str:
        """What the template writes behind an answer: its own end token first, if it has one.

        Raises TemplateError where the template does not even render a question and an answer.
        """
        probe = [Message("user", "?"), Message("assistant", "!")]
        try:
            marked = self._render(_marked(probe), prompt=False)
        except TemplateError:
            # Some templates want a system message, most others do without.
            probe.insert(0, Message("system", "."))
            marked = self._render(_marked(probe), prompt=False)
        return marked.rpartition(_marker(len(probe) - 1))[2]

    def _pieces(self, messages: Sequence[Message], whole: str) -> list[tuple[int | None, str]]:
        """Pieces of the rendering: a message's index and text, or None and the template's text."""
        texts = [message.text for message in messages]
        marked = _MARKER.split(whole)
        # The split alternates: the template's text, a message's index, ...
        rendered = self._render(_plain(messages), prompt=False)
        pieces: list[tuple[int | None, str]] = [(None, marked[0])]
        position = len(marked[0])
        if not rendered.startswith(marked[0]):
            raise self._untraceable()
        for number, behind in zip(marked[1::2], marked[2::2], strict=True):
            index = int(number)
            text = self._text_at(rendered, position, texts[index], behind)
            pieces += [(index, text), (None, behind)]
            position += len(text) + len(behind)
        if position != len(rendered):
            raise self._untraceable()
        return pieces

    def _text_at(self, rendered: str, position: int, text: str, behind: str) -> str:
        # Many templates trim what they are given, some only one role's.
        for candidate in (text, text.strip(), text.lstrip(), text.rstrip()):
            if rendered.startswith(candidate + behind, position):
                return candidate
        raise self._untraceable()

    def _check_prefixes(self, messages: Sequence[Message], answers: set[int], whole: str) -> None:
        for index in sorted(answers):
            prompt = self._render(_marked(messages)[:index], prompt=True)
            if not whole.startswith(prompt) or _marker(index) in prompt:
                raise self._error(
                    f"renders the prompt for messages[{index}] differently from how the whole "
                    "conversation begins, so the answer's place can't be told"
                )

    def _render(self, messages: Sequence[Mapping[str, str]], *, prompt: bool) -> str:
        variables = {"tools": None, "documents": None, **dict(self.tokens)}
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._compiled.generate(
                messages=messages, add_generation_prompt=prompt, **variables
            ):
                size += len(piece)
                if size > MAX_RENDERED_CHARACTERS:
                    raise self._error("renders more text than any model could read")
                pieces.append(piece)
        except JinjaError as error:
            raise self._error(f"does not render: {error.message or error}") from error
        # What an expression on the wrong type, key or number raises inside a template.
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise self._error(f"does not render: {error}") from error
        except (RecursionError, MemoryError) as error:
            raise self._error("does not render: it needs too much memory") from error
        return "".join(pieces)

    @cached_property
    def _compiled(self) -> Template:
        try:
            return _environment().from_string(self.source)
        except JinjaError as error:
            line = getattr(error, "lineno", None)
            where = f" on line {line}" if line else ""
            raise self._error(f"is not valid Jinja{where}: {error.message}") from error
        except RecursionError as error:
            raise self._error("is nested too deeply") from error

    def _untraceable(self) -> TemplateError:
        return self._error("changes the messages' text in a way that can't be followed")

    def _error(self, what: str) -> TemplateError:
        return TemplateError(
            # Some of what Jinja says ends with a period of its own.
            f"The {self.name} chat template {what.removesuffix('.')}.",
            "Correct it, or take --template chatml or alpaca.",
        )


def _marked(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": _marker(i)} for i, m in enumerate(messages)]


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.text} for m in messages]


# ---------------------------------------------------------------- the sandbox


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which keeps a template from the machine, and a limit on repetition, which
    keeps `"x" * 10**10` from the memory.
    """

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if not numbers and any(isinstance(x, int) and x > _MAX_REPETITIONS for x in (left, right)):
            raise SecurityError(f"more than {_MAX_REPETITIONS} repetitions")
        if operator == "**" and (not numbers or abs(left) > _MAX_REPETITIONS or abs(right) > 64):
            raise SecurityError("too large a power")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """`{% generation %}` marks answers for transformers; ours are found without it."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _to_json(value: object, indent: int | None = None, ensure_ascii: bool = False) -> str:
    # Jinja's own escapes HTML, which no chat template wants.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise JinjaError(message)
