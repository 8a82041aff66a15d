"""How likely a model finds an answer that is given to it: one forward pass, no sampling.

Knows nothing of templates or requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.data.tokenizing import Encoded
from corral.errors import PromptTooLongError
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
