"""Compiled layers compute what plain ones do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from tests.tiny_models import VOCABULARY, tiny_llama
from torch._dynamo.utils import counters

from corral.data.examples import TokenizedExample
from corral.errors import SpecError
from corral.training.batches import make_batch
from corral.training.compiling import compile_layers, cpp_compiler
from corral.training.model import LabelLoss, load_trainable
from corral.training.parallel import layers_of

CPU = torch.device("cpu")


def row(*lengths: int) -> list[TokenizedExample]:
    return [
        TokenizedExample(ids=[5 + (7 * at) % 200 for at in range(n)], trained=[True] * n)
        for n in lengths
    ]


@pytest.mark.skipif(cpp_compiler() is None, reason="needs a C++ compiler")
def test_layers_are_compiled_once_for_all_rows_and_compute_the_same(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama", num_hidden_layers=1)
    plain, compiled = (load_trainable(folder, VOCABULARY) for _ in range(2))
    compile_layers(layers_of(compiled, None), CPU)
    graphs = []
    # Rows of other lengths, of other numbers of documents.
    for lengths in ((12, 5, 30), (9, 9, 3, 40), (7, 33)):
        batch = make_batch(row(*lengths), CPU)
        losses = [LabelLoss(model)(batch) for model in (plain, compiled)]
        for loss in losses:
            loss.backward()
        torch.testing.assert_close(losses[1], losses[0])
        graphs.append(counters["stats"]["unique_graphs"])
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5)
    assert graphs == [graphs[0]] * 3 != [0] * 3


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SpecError, match=r"no C\+\+ compiler"):
        compile_layers([], CPU)
