"""What a checkpoint holds, as it is at this moment, while training goes on to change it.

Tensors are copied into host memory that is allocated once and used again for every checkpoint; what
training does not change is referred to instead. Knows nothing of files.

The copies are the price of not waiting for the disk: see `snapshot_bytes`. A snapshot that training
waits for needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from corral.training.lora import adapted_layers, adapter_name, hugging_face_name, is_adapter
from corral.training.parallel import Ranks, is_sharded, whole
from corral.training.state import local_moments
from corral.training.tensor_files import StoredTensor

# Keeps a tensor as it is now: a copy of it, or the tensor itself where nobody will change it.
Keep = Callable[[str, Tensor], Tensor]


def snapshot_bytes(parameters: int, trained: int, world_size: int) -> int:
    """Bytes of host memory that the main rank's copies take, from its first checkpoint on.

    Float32 weights, and two moments of its share of those that are trained; other ranks hold only
    the latter. With LoRA on one process the frozen weights are referred to, and merged one after
    the other while they are written. A run that only saves at its end takes nothing.
    """
    moments = 2 * 4 * -(-trained // world_size)
    weights = trained if world_size == 1 and trained < parameters else parameters
    return 4 * weights + moments


class HostBuffers:
    """Host memory that is allocated at the first copy of a name and written over at later ones."""

    def __init__(self, device: torch.device) -> None:
        # Pinned memory is what a GPU copies to while it goes on.
        self._is_pinned = device.type == "cuda"
        self._buffers: dict[str, Tensor] = {}

    @property
    def size_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor as it is now; valid once `wait` has returned, until the next copy of it."""
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._is_pinned)
            self._buffers[name] = buffer
        return buffer.copy_(tensor, non_blocking=self._is_pinned)

    def wait(self) -> None:
        """Until every copy is complete."""
        if self._is_pinned:
            torch.cuda.synchronize()


def as_it_is(name: str, tensor: Tensor) -> Tensor:
    """The tensor itself, for a snapshot that training waits for; from a GPU, its copy here."""
    return tensor.detach().cpu()


def model_tensors(model: nn.Module, ranks: Ranks, keep: Keep) -> list[StoredTensor]:
    """All weights in float32 under their Hugging Face names, adapters merged; the main rank's list,
    empty on the others. A collective.

    Tied weights appear once, under the name that comes first: config.json says that they are tied.
    """
    keep = keep if ranks.is_main else _drop
    stored = list(_model_tensors(model, keep))
    return stored if ranks.is_main else []


def _drop(name: str, tensor: Tensor) -> Tensor:
    """For ranks that only take part in gathering: the other's memory is not theirs to hold."""
    return tensor.new_empty(0)


def _model_tensors(model: nn.Module, keep: Keep) -> Iterator[StoredTensor]:
    layers = adapted_layers(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        plain = hugging_face_name(name)
        layer = layers.get(name)
        if layer is not None:
            merge = layer.merger(whole(layer.down.detach()), whole(layer.up.detach()), keep, plain)
        else:
            merge = Tensor.float
        if parameter.requires_grad or is_sharded(parameter):
            # Gathering is a collective, which cannot wait for the thread that writes.
            yield StoredTensor.of(plain, keep(plain, merge(whole(parameter.detach()))))
        else:
            merged = partial(merge, parameter.detach())
            yield StoredTensor(plain, torch.float32, tuple(parameter.shape), merged)


def adapter_tensors(model: nn.Module, ranks: Ranks, keep: Keep) -> list[StoredTensor]:
    """The adapters under peft's names, float32; the main rank's list, empty on the others, and
    without LoRA on all. A collective.
    """
    keep = keep if ranks.is_main else _drop
    stored = [
        StoredTensor.of(adapter_name(name), keep(f"adapter.{name}", whole(parameter.detach())))
        for name, parameter in model.named_parameters()
        if is_adapter(name)
    ]
    return stored if ranks.is_main else []


def moment_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks, keep: Keep
) -> list[StoredTensor]:
    """This rank's rows of every moment, see corral.training.state."""
    return [
        StoredTensor.of(key, keep(key, tensor))
        for key, tensor in local_moments(model, optimizer, ranks)
    ]
