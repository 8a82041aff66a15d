"""safetensors, written piece by piece: what is written can be hashed on its way to the disk.

The package's own `save_file` wants all tensors at once and a path, so its file would have to be read
again to be hashed. Knows nothing of models or checkpoints. Format:
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

_DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
# As much as is hashed and written at once. Both let other threads run meanwhile.
_PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to write. `read` gives it, of this type and shape, whenever its turn comes: so a
    file may be larger than the memory that it takes to write it.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> StoredTensor:
        """A tensor that is there and stays as it is until it is written."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def safetensors_pieces(
    tensors: Sequence[StoredTensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """The content of a .safetensors file with these tensors, in their order.

    Types of different widths would leave some tensors unaligned, so put the widest first.
    """
    yield _header(tensors, metadata)
    for tensor in tensors:
        content = tensor.read().detach().cpu().contiguous()
        assert (content.dtype, tuple(content.shape)) == (tensor.dtype, tensor.shape), tensor.name
        if content.numel():
            # NumPy knows no bfloat16, but its bytes.
            view = content.reshape(-1).view(torch.uint8).numpy().data
            for at in range(0, len(view), _PIECE_BYTES):
                yield view[at : at + _PIECE_BYTES]


def _header(tensors: Sequence[StoredTensor], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size_bytes
        entries[tensor.name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Spaces up to a multiple of 8, so that the tensors behind it are aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
