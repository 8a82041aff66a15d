"""Answers held to a JSON schema: which tokens may come next, and which have come.

llguidance walks the schema's grammar token by token. Between an answer's values stand single blanks,
where JSON would allow any number of them: a small model could go on with blanks for ever. Knows
nothing of models, sampling or requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from corral.errors import CorralError, InvalidRequestError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_STYLE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
_BITS = 32


class Grammars:
    """The grammars of one tokenizer; made once for a model, since it takes a part of a second."""

    def __init__(self, definition: str, vocabulary: int, end_ids: Iterable[int]) -> None:
        """`definition` is the text of a tokenizer.json, `vocabulary` the number of logits at least;
        an answer ends in one of `end_ids`.
        """
        self._tokenizer = LLTokenizer(definition, n_vocab=vocabulary, eos_token=sorted(end_ids))

    def of_schema(self, schema: str) -> Constraint:
        """What holds one answer to a JSON schema. Raises InvalidRequestError for one that is no JSON
        schema, or has what can't be held to.
        """
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults=_STYLE)
        except ValueError as error:
            raise _refused(str(error)) from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return Constraint(matcher)


class Constraint:
    """One answer's way through its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self, size: int) -> Tensor:
        """Whether each of the first `size` tokens may come next: [size] bool. An end token may once
        the answer is whole.
        """
        words = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.int32)
        bits = (words[:, None] >> torch.arange(_BITS, dtype=torch.int32)) & 1
        found = torch.zeros(size, dtype=torch.bool)
        known = bits.flatten()[:size].bool()
        found[: len(known)] = known
        return found

    def push(self, token: int) -> None:
        """A token has come."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise CorralError(f"The JSON schema can't be followed: {self._matcher.get_error()}")


def _refused(why: str) -> InvalidRequestError:
    first = why.strip().splitlines()[0] if why.strip() else "not a JSON schema"
    return InvalidRequestError(f"json_schema: {first.rstrip('.')}.", "Simplify the schema.")
