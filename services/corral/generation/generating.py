"""One answer in the making: which tokens it has, what of its text is certain, and when it ends.

Knows nothing of how logits are computed, or of other answers; `Batch` does both.
"""

from __future__ import annotations

from collections.abc import Iterator

from corral.errors import InvalidRequestError, PromptTooLongError
from corral.generation.answers import Finish, FinishReason, Likelihood, Piece
from corral.generation.loading import LoadedModel
from corral.generation.loop_guard import LoopGuard
from corral.generation.sampler import Drawn, Row
from corral.generation.text import Detokenizer, StopMatcher
from corral.sampling import SamplingOptions


class Generation:
    """A prompt, and the answer to it as far as it is written."""

    def __init__(self, model: LoadedModel, prompt_ids: list[int], options: SamplingOptions) -> None:
        """Raises InvalidRequestError for an empty prompt, a token that the model does not have or a
        JSON schema that can't be held to, PromptTooLongError for a prompt that leaves no room for an answer. Computes nothing yet.
        """
        check_prompt(prompt_ids, model.context_length)
        self.options = options
        schema = options.json_schema
        constraint = model.grammars.of_schema(schema) if schema is not None else None
        self.row = Row(options, prompt_ids, constraint)
        # Of prompt and answer.
        self.tokens = list(prompt_ids)
        self.prompt_tokens = len(prompt_ids)
        self.cached_tokens = 0
        self.finished = False
        self._limit = min(model.context_length, self.prompt_tokens + options.max_tokens)
        self._end_ids = model.end_ids
        self._detokenizer = Detokenizer(model.tokenizer.decode)
        self._stops = StopMatcher(options.stop)
        self._guard = LoopGuard() if options.loop_guard else None
        # Of tokens whose text has not been given out yet.
        self._likelihoods: list[Likelihood] = []

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def longest(self) -> int:
        """How many tokens prompt and answer will have at most."""
        return self._limit

    @property
    def is_reproducible(self) -> bool:
        """Whether the same prompt is to get the same answer again, to the last bit."""
        return self.options.seed is not None or self.row.is_greedy

    def take(self, drawn: Drawn) -> list[Piece | Finish]:
        """Add a token; what of the answer is certain since. The last list of an answer ends in its
        Finish; nothing may be taken after it.
        """
        assert not self.finished
        self.tokens.append(drawn.token)
        if drawn.likelihood is not None:
            self._likelihoods.append(drawn.likelihood)
        if drawn.token in self._end_ids:
            return self._finish(FinishReason.STOP, "")
        text = self._stops.push(self._detokenizer.push(drawn.token))
        if self._stops.stopped:
            return [*self._pieces(text), self._finish_of(FinishReason.STOP)]
        if self._guard is not None and self._guard.push(drawn.token):
            return self._finish(FinishReason.LOOP, text)
        if len(self.tokens) >= self._limit:
            return self._finish(FinishReason.LENGTH, text)
        return self._pieces(text)

    def _finish(self, reason: FinishReason, text: str) -> list[Piece | Finish]:
        """Give out what was held back; a stop string in it still counts."""
        text += self._stops.push(self._detokenizer.flush())
        if self._stops.stopped:
            reason = FinishReason.STOP
        else:
            text += self._stops.flush()
        return [*self._pieces(text), self._finish_of(reason)]

    def _finish_of(self, reason: FinishReason) -> Finish:
        self.finished = True
        return Finish(reason, self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    def _pieces(self, text: str) -> list[Piece | Finish]:
        if not text and not self._likelihoods:
            return []
        likelihoods, self._likelihoods = tuple(self._likelihoods), []
        return [Piece(text, likelihoods)]


def generate(
    model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
) -> Iterator[Piece | Finish]:
    """One answer from its beginning to its end. Raises as `Generation` does."""
    from corral.generation.batch import Batch

    generation = Generation(model, prompt_ids, options)
    batch = Batch(model.decoder)
    batch.join(generation)
    while not generation.finished:
        for _, outputs in batch.step():
            if isinstance(outputs, Exception):
                raise outputs
            yield from outputs


def check_prompt(prompt_ids: list[int], context_length: int) -> None:
    """Raises InvalidRequestError for an empty prompt, PromptTooLongError for one that does not leave
    room for one token of an answer.
    """
    if not prompt_ids:
        raise InvalidRequestError("The prompt is empty.", "Write something to answer to.")
    if len(prompt_ids) >= context_length:
        raise PromptTooLongError(
            f"The prompt has {len(prompt_ids):,} tokens; the model's context holds"
            f" {context_length:,}, one of which at least is the answer's.",
            "Shorten the message, or leave out earlier ones (in `corral chat`, `.` switches the"
            " history off).",
        )
