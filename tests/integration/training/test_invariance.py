"""Batch size, accumulation, ranks and packing change the speed of a run and nothing else; and only one
rank tokenizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from tests.forked_training import train_all
from tests.runs import losses, write_run
from tests.tiny_models import tiny_gpt2, tiny_llama

from corral.checkpoints.folders import complete_checkpoints
from corral.run import Ended, RunEvent
from corral.volume import Volume

# Dropout is drawn for a forward pass: it is off here, where the passes are not the same.
BUILDERS = {
    "gpt2": lambda folder: tiny_gpt2(folder, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
    "llama": tiny_llama,
}
ROWS = [
    {"instruction": f"Say the word number {n}.", "output": f"word {n} " * (1 + n % 5)}
    for n in range(20)
]
# batch_size, gradient_accumulation_steps, processes, packing: always 8 examples a step, the last of
# an epoch has 4.
SHAPES = [
    (4, 2, 1, False),
    (8, 1, 1, True),
    (4, 2, 1, True),
    (1, 8, 1, True),
    (2, 2, 2, True),
    (2, 1, 4, True),
    (2, 1, 4, False),
]
SPOILED = "spoiled"


class Finished:
    """All runs of this module, trained, by their names."""

    def __init__(self, folder: Path) -> None:
        self.volume = Volume(folder / "data")
        self.ranks: dict[str, int] = {}
        self._files: list[Path] = []
        for family, build in BUILDERS.items():
            model = build(folder / family)
            for batch, accumulation, ranks, packing in SHAPES:
                self._add(
                    run_name(family, batch, accumulation, ranks, packing),
                    model,
                    ranks,
                    batch_size=batch,
                    gradient_accumulation_steps=accumulation,
                    packing=packing,
                )
        self._add(SPOILED, model, 2, rows=[*ROWS, {"instruction": "And the answer?"}])
        runs = list(zip(self._files, self.ranks.values(), strict=True))
        self.events: dict[str, list[RunEvent]] = dict(zip(self.ranks, train_all(runs), strict=True))

    def _add(self, name: str, model: Path, ranks: int, **fields: Any) -> None:
        self.ranks[name] = ranks
        fields = {"rows": ROWS, "eval_prompts": 0, "processes": ranks} | fields
        self._files.append(write_run(self.volume, model, job_id=name, **fields))

    def weights(self, name: str) -> dict[str, Any]:
        folder = complete_checkpoints(self.volume.checkpoints(name))[-1]
        return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("runs"))


def run_name(family: str, batch: int, accumulation: int, ranks: int, packing: bool) -> str:
    return f"{family}-{batch}x{accumulation}x{ranks}-{'packed' if packing else 'plain'}"


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("family", BUILDERS)
def test_shape_ranks_and_packing_do_not_change_what_is_learned(
    finished: Finished, family: str, shape: tuple[int, int, int, bool]
) -> None:
    expected, name = run_name(family, *SHAPES[0]), run_name(family, *shape)
    assert len(losses(finished.events[expected])) == 6
    assert losses(finished.events[name]) == pytest.approx(
        losses(finished.events[expected]), rel=1e-4
    )
    assert_weights_close(finished.weights(name), finished.weights(expected))


def test_a_row_that_cannot_be_trained_on_ends_all_ranks_and_is_named(finished: Finished) -> None:
    last = finished.events[SPOILED][-1]
    assert isinstance(last, Ended)
    assert (last.outcome, last.code) == ("failed", "DATASET_INVALID")
    assert "line 21 (row 20), output" in last.message


def test_runs_on_the_same_rows_share_their_tokens(finished: Finished) -> None:
    folders = finished.volume.datasets.glob("*/prepared-*")
    # Both families have the same tokenizer here; nothing is kept of the rows with a mistake.
    assert len(list(folders)) == 1


def assert_weights_close(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name in second:
        pair = first[name], second[name]
        if name.endswith("attn.c_attn.bias"):
            # Softmax does not change with a bias of the keys: its gradient is rounding noise, which
            # Adam scales up to the size of any other.
            pair = tuple(bias.view(3, -1)[[0, 2]] for bias in pair)
        torch.testing.assert_close(*pair, rtol=1e-3, atol=2e-5)
