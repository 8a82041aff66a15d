"""The optimizer's state on disk: sharded, safetensors and JSON, loadable at any world size.

Rank r of w writes its rows of every moment to state/rank-<r>-of-<w>.safetensors. FSDP2 splits a
tensor's rows into chunks of equal height, so the rows of any other world size are slices of those
files. Adam's step count is the number of steps done. No random state is kept, since there is none:
every step seeds its dropout by its number, and the order of examples follows from seed and cursor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from corral.checkpoints.manifest import STATE_FOLDER
from corral.errors import CheckpointCorruptError
from corral.training.early_stopping import BestSoFar
from corral.training.order import Cursor
from corral.training.parallel import Ranks, is_sharded

_CURSOR_FILE = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class RunState:
    """Where a run stands: optimizer steps done, the data cursor, the best evaluation so far."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    best: BestSoFar = field(default_factory=BestSoFar)


def state_file(rank: int, world_size: int) -> str:
    """The file with a rank's moments, relative to the checkpoint's folder."""
    return f"{STATE_FOLDER}/rank-{rank}-of-{world_size}.safetensors"


def cursor_file() -> str:
    """The file with the RunState, relative to the checkpoint's folder."""
    return f"{STATE_FOLDER}/{_CURSOR_FILE}"


def encode_state(state: RunState) -> bytes:
    """The cursor file's content."""
    return (json.dumps(asdict(state)) + "\n").encode()


def local_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks
) -> Iterator[tuple[str, Tensor]]:
    """This rank's rows of every moment, with the name that they are stored under.

    Unsharded weights are the same on every rank, so only the main one has theirs.
    """
    for name, parameter in trained_parameters(model):
        if is_sharded(parameter) or ranks.is_main:
            for moment in _MOMENTS:
                yield f"{moment}.{name}", _local(optimizer.state[parameter][moment])


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Those that the optimizer keeps state for, with their names."""
    return [(name, each) for name, each in model.named_parameters() if each.requires_grad]


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks
) -> RunState:
    """Fill the optimizer from a checkpoint, whatever world size wrote it.

    Raises CheckpointCorruptError where a file is missing or does not fit the model.
    """
    source = folder / STATE_FOLDER
    try:
        raw = json.loads((source / _CURSOR_FILE).read_bytes())
        state = RunState(raw["step"], Cursor(**raw["cursor"]), BestSoFar(**raw.get("best", {})))
        with ExitStack() as stack:
            shards = [stack.enter_context(safe_open(path, "pt")) for path in _shard_files(source)]
            for name, parameter in trained_parameters(model):
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
    sharded = is_sharded(parameter)
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
