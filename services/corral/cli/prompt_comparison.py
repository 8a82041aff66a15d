"""What a model is worth under several prompts, in figures and in one sentence. Plain values.

Knows nothing of servers or screens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from corral.cli.options import JINJA_SUFFIXES, read_text_or_file, template_fields
from corral.data.preambles import named_preamble, named_preambles
from corral.errors import InvalidRequestError

TEMPLATES = ("alpaca", "chatml", "model")
_SHOWN = 24


@dataclass(frozen=True)
class Prompt:
    """A prompt template under the name that it is shown by; `fields` are those of a TrainingSpec."""

    name: str
    fields: tuple[tuple[str, str], ...]
    trained: bool = False


@dataclass(frozen=True)
class Answer:
    """What the model answered to one question under one prompt."""

    question: str
    answer: str
    # The end token included.
    tokens: int
    stopped: bool
    # As corral.text_measures has them.
    repetition: float
    looping: bool


@dataclass(frozen=True)
class Measured:
    """A prompt with what was measured under it. `loss` is nats per token of the rows' answers; None
    where there were no rows.
    """

    prompt: Prompt
    loss: float | None
    answers: tuple[Answer, ...]

    @property
    def stop_rate(self) -> float:
        return fmean(answer.stopped for answer in self.answers)

    @property
    def repetition_rate(self) -> float:
        return fmean(answer.repetition for answer in self.answers)

    @property
    def looping_rate(self) -> float:
        return fmean(answer.looping for answer in self.answers)

    @property
    def answer_tokens(self) -> float:
        return fmean(answer.tokens for answer in self.answers)

    def to_plain(self) -> dict[str, Any]:
        """For --json."""
        return {
            "prompt": self.prompt.name,
            "trained": self.prompt.trained,
            "loss": self.loss,
            "perplexity": None if self.loss is None else math.exp(self.loss),
            "stop_rate": self.stop_rate,
            "repetition_rate": self.repetition_rate,
            "looping_rate": self.looping_rate,
            "answer_tokens": self.answer_tokens,
            "answers": [asdict(answer) for answer in self.answers],
        }


def prompts_to_compare(trained: dict[str, str], named: str) -> list[Prompt]:
    """The trained prompt first, then those that a user names, parted by commas, each once.

    A name is a template's, a preamble's, or a file's: a Jinja template, or the text of a preamble.
    Raises InvalidRequestError for anything else.
    """
    own = _fields(trained)
    found = [Prompt(_name_of(trained), own, trained=True)]
    for name in filter(None, (part.strip() for part in named.split(","))):
        prompt = Prompt(name, _fields(_named(name)))
        if prompt.fields not in [one.fields for one in found]:
            found.append(prompt)
        elif prompt.fields == own:
            found[0] = Prompt(name, own, trained=True)
    return found


def _named(name: str) -> dict[str, Any]:
    preamble = named_preamble(name)
    if preamble is not None:
        return {"template": "alpaca", "preamble": preamble}
    if name in TEMPLATES:
        return {"template": name}
    if name.endswith(JINJA_SUFFIXES):
        return template_fields(template=name)
    if name.endswith(".txt"):
        return {"template": "alpaca", "preamble": read_text_or_file(name)}
    raise InvalidRequestError(
        f"There is no prompt {name!r:.80}.",
        f"Known: {', '.join((*TEMPLATES, *named_preambles()))}; or a file that ends in .jinja (a"
        " template) or .txt (a preamble).",
    )


def _fields(fields: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(fields.items()))


def _name_of(trained: dict[str, str]) -> str:
    """How to call a prompt that is known by its fields alone."""
    for name in named_preambles():
        if named_preamble(name) == trained.get("preamble"):
            return name
    preamble = trained.get("preamble")
    return f"alpaca: {preamble[:_SHOWN]}…" if preamble else trained["template"]


def verdict(measured: Sequence[Measured]) -> str:
    """One sentence about the trained prompt, which is the first, against the mean of the others."""
    own, *others = measured
    if not others:
        return "There is no other prompt to compare with."
    # Better is negative.
    signs = [
        _sign(own.repetition_rate, fmean(one.repetition_rate for one in others)),
        -_sign(own.stop_rate, fmean(one.stop_rate for one in others)),
    ]
    losses = [one.loss for one in others if one.loss is not None]
    if own.loss is not None and losses:
        signs.append(_sign(own.loss, fmean(losses)))
    if max(signs) <= 0 and min(signs) < 0:
        said = "the model is better"
    elif min(signs) >= 0 and max(signs) > 0:
        said = "the model is worse"
    else:
        said = "the model is neither better nor worse throughout"
    return f"Under the prompt that it was trained with, {said}: {_against(own, others, losses)}."


def _against(own: Measured, others: Sequence[Measured], losses: Sequence[float]) -> str:
    loss = ""
    if own.loss is not None and losses:
        loss = f"loss {own.loss:.3f} against {fmean(losses):.3f} under the others on average, "
    return (
        f"{loss}{own.stop_rate:.0%} of its answers stop by themselves against"
        f" {fmean(one.stop_rate for one in others):.0%}, {own.looping_rate:.0%} end in a loop against"
        f" {fmean(one.looping_rate for one in others):.0%}, and repetition is"
        f" {own.repetition_rate:.0%} against {fmean(one.repetition_rate for one in others):.0%}"
    )


def _sign(own: float, other: float) -> int:
    return (own > other) - (own < other)
