"""Greedy answers of the model as it trains, all questions at once, through the sharded weights.

Under FSDP each forward pass is a collective, so every rank computes the same batch, in lock-step; the
weights are never gathered whole. Knows nothing of text or of what the answers are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from corral.training.model import LabelLoss
from corral.training.parallel import Ranks


@torch.no_grad()
def greedy_answers(
    loss: LabelLoss,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    end_id: int,
    ranks: Ranks,
) -> list[list[int]]:
    """The most likely continuation of each prompt, to its end token, which is kept, or to
    `max_tokens`. A collective: every rank gets the answers that it computed, which are the same
    unless their arithmetic differs.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    ids, mask = _padded(prompts, ranks.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    network: Any = loss.model
    cache = DynamicCache(config=network.config)
    for _ in range(max_tokens):
        logits = loss.next_logits(ids, mask, positions, cache)
        tokens = cast("list[int]", logits.argmax(dim=-1).tolist())
        for answer, token in zip(answers, tokens, strict=True):
            if not _has_ended(answer, end_id):
                answer.append(token)
        # The main rank's word: a rank that stopped on its own would leave the others waiting.
        is_open = ranks.is_main and not all(_has_ended(answer, end_id) for answer in answers)
        if not any(ranks.total(float(is_open))):
            break
        ids = torch.tensor(tokens, device=ranks.device)[:, None]
        mask = torch.cat((mask, torch.ones_like(ids)), dim=1)
        positions = positions[:, -1:] + 1
    return answers


def _has_ended(answer: list[int], end_id: int) -> bool:
    return bool(answer) and answer[-1] == end_id


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, [rows, longest] int64, padded on the left: all answers then begin in
    the same column.
    """
    longest = max(len(prompt) for prompt in prompts)
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
