"""One answer: read the prompt, then token after token, each a step of its own.

`Generation` does one step at a time, so that an engine can give several of them turns; `generate`
runs one to its end. Knows nothing of requests, threads or templates.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import DynamicCache

from corral.errors import InvalidRequestError, PromptTooLongError
from corral.generation.answers import Finish, FinishReason, Piece
from corral.generation.loading import LoadedModel
from corral.generation.sampler import Sampler
from corral.generation.text import Detokenizer, StopMatcher
from corral.sampling import SamplingOptions

# A longer prompt is read in several steps, so that others' answers go on meanwhile.
PREFILL_TOKENS = 512


class Generation:
    """An answer in the making. Its key-value cache is freed with it."""

    def __init__(
        self,
        model: LoadedModel,
        prompt_ids: list[int],
        options: SamplingOptions,
        *,
        prefill_tokens: int = PREFILL_TOKENS,
    ) -> None:
        """Raises InvalidRequestError for an empty prompt, PromptTooLongError for one that leaves no
        room for an answer. Computes nothing yet.
        """
        check_prompt(prompt_ids, model.context_length)
        self._model = model
        self._options = options
        self._prompt_tokens = len(prompt_ids)
        self._unread = prompt_ids
        self._prefill_tokens = prefill_tokens
        self._cache = DynamicCache(config=model.network.config)
        self._sampler = Sampler(options, prompt_ids=prompt_ids, device=model.device)
        self._detokenizer = Detokenizer(model.tokenizer.decode)
        self._stops = StopMatcher(options.stop)
        self.completion_tokens = 0
        self.finished = False

    @torch.inference_mode()
    def step(self) -> list[Piece | Finish]:
        """Read one chunk of the prompt, or add one token; what of the answer is certain since.

        The last step's list ends in the Finish; none may follow it.
        """
        assert not self.finished
        chunk, self._unread = (
            self._unread[: self._prefill_tokens],
            self._unread[self._prefill_tokens :],
        )
        logits = self._forward(chunk)
        if self._unread:
            return []
        token = self._sampler.pick(logits)
        self._unread = [token]
        self.completion_tokens += 1
        return self._take(token)

    def _forward(self, tokens: list[int]) -> Tensor:
        """Logits after the last of some tokens that follow those in the cache: [vocabulary]."""
        output = self._model.network(
            input_ids=torch.tensor([tokens], dtype=torch.long, device=self._model.device),
            past_key_values=self._cache,
            use_cache=True,
            # The head on the last token only: its 50,000 columns for each token of the prompt
            # would cost more memory than the rest.
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[0, -1]
        return logits

    def _take(self, token: int) -> list[Piece | Finish]:
        if token in self._model.end_ids:
            return self._finish(FinishReason.STOP, "")
        text = self._stops.push(self._detokenizer.push(token))
        if self._stops.stopped:
            self.finished = True
            return _pieces(text, self._finish_of(FinishReason.STOP))
        if self._is_full:
            return self._finish(FinishReason.LENGTH, text)
        return _pieces(text)

    @property
    def _is_full(self) -> bool:
        total = self._prompt_tokens + self.completion_tokens
        return (
            self.completion_tokens >= self._options.max_tokens
            or total >= self._model.context_length
        )

    def _finish(self, reason: FinishReason, text: str) -> list[Piece | Finish]:
        """Give out what was held back; a stop string in it still counts."""
        self.finished = True
        text += self._stops.push(self._detokenizer.flush())
        if self._stops.stopped:
            reason = FinishReason.STOP
        else:
            text += self._stops.flush()
        return _pieces(text, self._finish_of(reason))

    def _finish_of(self, reason: FinishReason) -> Finish:
        return Finish(reason, self._prompt_tokens, self.completion_tokens)


def generate(
    model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
) -> Iterator[Piece | Finish]:
    """One answer from its beginning to its end. Raises as `Generation` does."""
    generation = Generation(model, prompt_ids, options)
    while not generation.finished:
        yield from generation.step()


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


def _pieces(text: str, finish: Finish | None = None) -> list[Piece | Finish]:
    pieces: list[Piece | Finish] = [Piece(text)] if text else []
    return pieces if finish is None else [*pieces, finish]
