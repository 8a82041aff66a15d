"""The model to train: loaded, its vocabulary fitted, and wrapped so that its forward is the loss.

Knows nothing of steps or ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from corral.networks import load_network
from corral.training.attention import Row, no_mask, use_document_attention
from corral.training.batches import Batch
from corral.training.head import head_loss


class LabelLoss(nn.Module):
    """A causal language model whose forward pass gives the summed loss of its label tokens.

    The vocabulary head runs on the label tokens only: logits of 50,000 columns for every token of
    the prompt would be most of the memory and a good part of the time, for nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        use_document_attention(model)

    def forward(self, batch: Batch) -> Tensor:
        """Cross-entropy summed over the batch's labels, in nats: [] float32."""
        model: Any = self.model
        hidden = model.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=no_mask(batch.input_ids.device),
            row=Row(batch.documents),
            use_cache=False,
        ).last_hidden_state[0]
        head = model.get_output_embeddings()
        assert head.bias is None, "no architecture on the list has a bias in its head"
        softcap = getattr(model.config, "final_logit_softcapping", None)
        return head_loss(hidden[batch.predicts], head.weight, batch.labels, softcap)

    def next_logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Logits of what follows each row of `ids`, padded on the left: [rows, vocabulary] float32.

        ids, positions: [rows, new tokens]; mask: [rows, tokens in the cache and new ones].
        """
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


def load_trainable(folder: Path, vocabulary: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A Hugging Face folder as a model with weights of that type, in training mode.

    `vocabulary` is the tokenizer's size; where it exceeds the embedding's rows, rows are added that
    start at the mean of the old ones, so that a new token begins as an average one. Raises
    ModelUnsupportedError, see `load_network`.
    """
    model = load_network(folder, dtype)
    grow_vocabulary(model, vocabulary)
    model.train()
    module: nn.Module = model
    return module


def grow_vocabulary(model: Any, vocabulary: int) -> None:
    """Add rows to the embedding and the head, at the mean of those that were there."""
    embedding = model.get_input_embeddings().weight
    old = embedding.shape[0]
    if vocabulary <= old:
        return
    means = [embedding.detach().mean(dim=0)]
    head = model.get_output_embeddings().weight
    if head is not embedding:
        means.append(head.detach().mean(dim=0))
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[old:] = means[0]
        if len(means) == 2:
            model.get_output_embeddings().weight[old:] = means[1]


def parameter_count(model: nn.Module) -> int:
    """Parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
