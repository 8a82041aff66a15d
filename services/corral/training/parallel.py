"""Ranks: setting them up, sharding a plain model over them, adding up what they computed.

The model knows nothing of this; parallelism is applied to it from outside. FSDP2 shards each decoder
layer; what is left (embeddings, final norm, head) is one more group, since a tied embedding and head
must be in the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from corral.errors import SpecError


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()

    def total(self, *values: float) -> list[float]:
        """Each value summed over all ranks."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the process group that torchrun's environment names (gloo on CPU, nccl on GPU), if it names
    one.
    """
    on_cpu = not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu)
    device = torch.device("cpu") if on_cpu else state.device
    try:
        yield Ranks(state.process_index, state.num_processes, device)
    finally:
        # Without this, ranks that end at different times print warnings about each other.
        state.destroy_process_group()


def shard(model: nn.Module, wrap: str | None, dtype: torch.dtype, loss: nn.Module) -> None:
    """Shard `loss` (which holds `model`) over all ranks, per decoder layer, in place.

    Weights, gradients and optimizer state are split (full_shard); compute is in `dtype`, masters and
    the sum of gradients stay float32.
    """
    # On a CPU all ranks share one memory, and its network is slower than it computes: weights that the
    # forward pass has gathered stay until the backward pass is through.
    reshards = not _is_on_cpu(model)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in [*layers_of(model, wrap), loss]:
        fully_shard(layer, mp_policy=policy, reshard_after_forward=reshards)
        assert isinstance(layer, FSDPModule)
        # FSDP2 averages over ranks. Our loss is already divided by the label tokens of all ranks,
        # so the gradients have to be summed. A factor alone asks gloo for PREMUL_SUM, which it
        # lacks (torch 2.13); the plain sum has to be forced.
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)
    # Answers are written through the sharded weights too, see corral.training.answering.
    register_fsdp_forward_method(loss, "next_logits")


def _is_on_cpu(module: nn.Module) -> bool:
    return next(module.parameters()).device.type == "cpu"


def layers_of(model: nn.Module, wrap: str | None) -> list[nn.Module]:
    """The layers to shard by: those of the named class, or what the model's own code declares.

    Raises SpecError where the model has no layer of that class.
    """
    names = {wrap} if wrap else set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        known = sorted({type(module).__name__ for module in model.modules()})
        raise SpecError(
            f"fsdp_wrap: this model has no layer of class {wrap!r}.", f"It has {', '.join(known)}."
        )
    return layers


@contextmanager
def gradient_sync(loss: nn.Module, last: bool) -> Iterator[None]:
    """Reduce gradients over ranks only in the last backward pass of a step: one reduction, not many."""
    if isinstance(loss, FSDPModule):
        loss.set_requires_gradient_sync(last)
        if _is_on_cpu(loss):
            # The weights stay gathered until the optimizer changes them.
            loss.set_reshard_after_backward(last)
    yield


def sum_gradients(parameters: list[nn.Parameter], ranks: Ranks) -> None:
    """Sum the gradients of unsharded weights over all ranks."""
    if ranks.world_size == 1:
        return
    for parameter in parameters:
        if not isinstance(parameter, DTensor):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> float:
    """Scale the gradients so that their norm over all ranks is at most `limit`.

    Returns the norm before.
    """
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters, limit))
    return float(norm)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a rank holds only its rows of it."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one; a collective, so every rank has to call it."""
    if isinstance(tensor, DTensor):
        full: Any = tensor.full_tensor()
        return full  # type: ignore[no-any-return]
    return tensor
