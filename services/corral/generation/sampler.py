"""Which token comes next: the distribution that the options make of the logits, and the draw.

Knows nothing of models, text or requests beside its own: a sampler holds its own random numbers, so a
seeded answer is the same whatever else runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corral.errors import ModelUnsupportedError
from corral.sampling import SamplingOptions

# Below it, dividing by the temperature overflows; the distribution is one token's anyway.
GREEDY_BELOW = 1e-5


class Sampler:
    """Picks the tokens of one answer, one after the other."""

    def __init__(
        self, options: SamplingOptions, *, prompt_ids: Sequence[int], device: torch.device
    ) -> None:
        self._options = options
        self._seen = torch.tensor(sorted(set(prompt_ids)), dtype=torch.long, device=device)
        self._generator = torch.Generator(device)
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)

    def pick(self, logits: Tensor) -> int:
        """The next token's id, of logits of shape [vocabulary].

        Raises ModelUnsupportedError where they are not finite.
        """
        logits = penalize(logits.float(), self._seen, self._options.repetition_penalty)
        if not torch.isfinite(logits.max()):
            raise ModelUnsupportedError(
                "The model's output is not a finite number.",
                "Its training may have diverged: chat with an earlier checkpoint.",
            )
        token = self._greedy(logits) if self._is_greedy else self._draw(logits)
        if self._options.repetition_penalty != 1.0:
            # Never twice: a token that is penalized twice would be a matter of luck in indexing.
            picked = torch.tensor([token], dtype=torch.long, device=logits.device)
            self._seen = torch.unique(torch.cat((self._seen, picked)))
        return token

    @property
    def _is_greedy(self) -> bool:
        return self._options.temperature < GREEDY_BELOW or self._options.top_k == 1

    def _greedy(self, logits: Tensor) -> int:
        return int(logits.argmax())

    def _draw(self, logits: Tensor) -> int:
        tokens, probabilities = distribution(logits, self._options)
        drawn = torch.multinomial(probabilities, 1, generator=self._generator)
        return int(tokens[drawn])


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits of [vocabulary] with those of the `seen` ids, [n] and each once, made less likely.

    CTRL (Keskar et al. 2019), section 4.1, with the sign rule that later implementations added: a
    negative logit is multiplied, since dividing would make it likelier.
    """
    if penalty == 1.0 or seen.numel() == 0:
        return logits
    scores = logits[seen]
    return logits.index_copy(0, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


def distribution(logits: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
    """The tokens that may be drawn, [n] ids, and their probabilities, [n] float64, likeliest first.

    Temperature, then top-k, then top-p (nucleus: Holtzman et al. 2020) on what top-k left, its
    probabilities summing to 1 again.
    """
    kept = min(options.top_k or logits.numel(), logits.numel())
    scores, tokens = torch.topk(logits.double(), kept)
    # The greatest first becomes 0: no overflow, whatever the temperature.
    probabilities = torch.softmax((scores - scores[0]) / options.temperature, dim=0)
    if options.top_p < 1:
        before = probabilities.cumsum(0) - probabilities
        nucleus = int((before < options.top_p).sum())
        tokens, probabilities = tokens[:nucleus], probabilities[:nucleus]
    return tokens, probabilities / probabilities.sum()
