"""Whether a model whose embedding stays as it is can learn a template. Knows nothing of tensors."""

from __future__ import annotations

from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer
from corral.errors import SpecError


def check_frozen_embedding(template: PromptTemplate, tokenizer: FittedTokenizer) -> None:
    """Raises SpecError where the template writes tokens that are new to the base model: their rows
    of the embedding would stay what they begin as, all the same.

    A new padding token does no harm, since nothing reads or predicts it.
    """
    written = {*template.added_tokens, template.end_token}
    unknown = [token for token in tokenizer.added_tokens if token in written]
    if unknown:
        raise SpecError(
            f"tuning: template {template.name} writes tokens that this model has never seen"
            f" ({', '.join(unknown)}), and lora leaves its embedding as it is.",
            "Use tuning full, or template alpaca, which needs no tokens of its own.",
        )
