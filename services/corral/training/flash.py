"""The same attention on a GPU: torch's variable-length flash attention.

Shared prefixes are read by gathering the keys of each document. Not tested here for want of a GPU.
Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from corral.training.attention import Document


def can_flash(query: Tensor, dropout: float) -> bool:
    """Whether the kernel takes these: half precision, no dropout, from NVIDIA's Ampere on."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and not dropout
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    documents: Sequence[Document],
    scale: float,
    window: int | None,
) -> Tensor:
    """query: [1, heads, tokens, dim], key and value with fewer heads or as many. Returns
    [1, tokens, heads, dim].
    """
    from torch.nn.attention.varlen import varlen_attn

    device = query.device
    own = [document.stop - document.start for document in documents]
    read = [
        document.prefix_length + length for document, length in zip(documents, own, strict=True)
    ]
    key, value = key[0].transpose(0, 1), value[0].transpose(0, 1)
    if own != read:
        places = torch.cat(
            [
                torch.arange(begin, end)
                for document in documents
                for begin, end in (
                    (document.prefix_start, document.prefix_stop),
                    (document.start, document.stop),
                )
            ]
        ).to(device)
        key, value = key[places], value[places]
    # The kernel aligns the last query with the last key. Its window counts keys before a query's own.
    out = varlen_attn(
        query[0].transpose(0, 1),
        key,
        value,
        _ends(own, device),
        _ends(read, device),
        max(own),
        max(read),
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor), "only the output was asked for"
    return out[None]


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
