"""How likely a model finds an answer, or a prompt, that is given to it: one forward pass, no sampling.

Knows nothing of templates or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from corral.data.tokenizing import Encoded
from corral.errors import PromptTooLongError
from corral.generation.answers import Likelihood
from corral.generation.loading import LoadedModel


@dataclass(frozen=True)
class Scored:
    """`log_likelihood` is summed over the answer's tokens, in nats; the end token is one of them."""

    log_likelihood: float
    answer_tokens: int
    prompt_tokens: int


def score(model: LoadedModel, encoded: Encoded) -> Scored:
    """The likelihood of the tokens that are marked as trained, each given all before it.

    Raises PromptTooLongError where they don't fit into the model's context.
    """
    if len(encoded.ids) > model.context_length:
        raise PromptTooLongError(
            f"Prompt and answer have {len(encoded.ids):,} tokens; the model's context holds"
            f" {model.context_length:,}.",
            "Score a shorter one.",
        )
    answer = [at for at, trained in enumerate(encoded.trained) if trained]
    # All behind the prompt: only the last answer of a conversation is marked.
    likelihoods = model.decoder.score(encoded.ids, answer[0])
    return Scored(float(likelihoods.sum()), len(answer), len(encoded.ids) - len(answer))


@torch.inference_mode()
def prompt_likelihoods(model: LoadedModel, ids: Sequence[int], count: int) -> list[Likelihood]:
    """How likely each token of a prompt was, with the `count` likeliest of its place. The first follows
    nothing: 0, and none.
    """
    found = [Likelihood(ids[0], 0.0)]
    for likelihoods in model.decoder.distributions(ids, 1) if len(ids) > 1 else ():
        best = torch.topk(likelihoods, min(count, likelihoods.shape[1]), dim=-1)
        tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        for row, (tokens, values) in zip(likelihoods, tops, strict=True):
            token = ids[len(found)]
            top = tuple(zip(tokens, values, strict=True))
            found.append(Likelihood(token, float(row[token]), top))
    return found
