"""The optimizer's state on disk: sharded, safetensors and JSON, loadable at any world size.

Rank r of w writes its rows of every moment to state/rank-<r>-of-<w>.safetensors. FSDP2 splits a
tensor's rows into chunks of equal height, so the rows of any other world size are slices of those
files. Adam's step count is the number of steps done.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from corral.checkpoints.manifest import STATE_FOLDER
from corral.errors import CheckpointCorruptError
from corral.training.order import Cursor
from corral.training.parallel import Ranks

_CURSOR_FILE = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class RunState:
    """Where a run stands: optimizer steps done, and the data cursor."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState, ranks: Ranks
) -> None:
    """Write this rank's shard below the checkpoint `folder`; the main rank also writes state.json.

    Unsharded weights are the same on every rank, so only the main one writes theirs.
    """
    target = folder / STATE_FOLDER
    target.mkdir(exist_ok=True)
    tensors = {
        f"{moment}.{name}": _local(optimizer.state[parameter][moment]).contiguous().cpu()
        for name, parameter in model.named_parameters()
        if isinstance(parameter, DTensor) or ranks.is_main
        for moment in _MOMENTS
    }
    save_file(tensors, target / f"rank-{ranks.rank}-of-{ranks.world_size}.safetensors")
    if ranks.is_main:
        (target / _CURSOR_FILE).write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks
) -> RunState:
    """Fill the optimizer from a checkpoint, whatever world size wrote it.

    Raises CheckpointCorruptError where a file is missing or does not fit the model.
    """
    source = folder / STATE_FOLDER
    try:
        raw = json.loads((source / _CURSOR_FILE).read_bytes())
        state = RunState(raw["step"], Cursor(**raw["cursor"]))
        with ExitStack() as stack:
            shards = [stack.enter_context(safe_open(path, "pt")) for path in _shard_files(source)]
            for name, parameter in model.named_parameters():
                moments = {
                    moment: _like(parameter, _rows(shards, f"{moment}.{name}", parameter, ranks))
                    for moment in _MOMENTS
                }
                optimizer.state[parameter] = {"step": torch.tensor(float(state.step)), **moments}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointCorruptError(
            f"The training state in {source} can't be read: {error}"
        ) from error
    return state


def _shard_files(source: Path) -> list[Path]:
    """The files of all ranks that wrote, in the order of their ranks."""
    files = list(source.glob("rank-*-of-*.safetensors"))
    by_rank = {int(path.stem.split("-")[1]): path for path in files}
    world_size = int(files[0].stem.split("-")[3]) if files else 1
    return [by_rank[rank] for rank in range(world_size)]


def _rows(shards: list[Any], key: str, parameter: nn.Parameter, ranks: Ranks) -> Tensor:
    """This rank's rows of a tensor whose rows are spread over the shards, in order."""
    rows = parameter.shape[0]
    sharded = isinstance(parameter, DTensor)
    begin, end = _chunk(rows, ranks.rank, ranks.world_size) if sharded else (0, rows)
    found, offset = [torch.empty((0, *parameter.shape[1:]))], 0
    for piece in (shard.get_slice(key) for shard in shards if key in shard.keys()):  # noqa: SIM118
        height = piece.get_shape()[0]
        low, high = max(begin, offset), min(end, offset + height)
        if low < high:
            found.append(piece[low - offset : high - offset])
        offset += height
    if offset != rows:
        raise ValueError(f"{key} has {offset} rows, not {rows}")
    return torch.cat(found)


def _chunk(rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """The rows of a rank, as torch.chunk splits them: equal heights, the last ones shorter."""
    height = -(-rows // world_size)
    return min(rank * height, rows), min((rank + 1) * height, rows)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _like(parameter: nn.Parameter, local: Tensor) -> Tensor:
    """A tensor laid out over the ranks like the parameter."""
    local = local.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return local
    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
