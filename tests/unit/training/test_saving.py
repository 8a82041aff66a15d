"""Checkpoints are written while training goes on: as the weights were, whole or not at all."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file
from tests.tiny_models import tiny_gpt2

from corral.checkpoints.folders import checkpoint_name, complete_checkpoints
from corral.checkpoints.manifest import Metrics, verify
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.errors import CorralError, StorageFailedError, StorageFullError
from corral.run import TrainingRun
from corral.spec import TrainingSpec
from corral.training.checkpoint_files import Identity
from corral.training.model import load_trainable
from corral.training.optimizer import make_optimizer
from corral.training.order import Cursor
from corral.training.parallel import Ranks
from corral.training.saving import Saver
from corral.training.state import RunState, load_state
from corral.training.tensor_files import StoredTensor, safetensors_pieces

ALONE = Ranks(0, 1, torch.device("cpu"))


class SlowTokenizer:
    """Saves when it may, as the given one does; or fails with an error of the system."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.may_save = threading.Event()
        self.errno = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def save(self, folder: Path) -> None:
        assert self.may_save.wait(30)
        if self.errno:
            raise OSError(self.errno, "the disk says so")
        self._real.save(folder)


class Training:
    """A tiny model with an optimizer, and a saver whose disk is as slow as a test wants."""

    def __init__(self, folder: Path) -> None:
        base = tiny_gpt2(folder / "base")
        spec = TrainingSpec(model=str(base), learning_rate=1e-3)
        template = PromptTemplate.from_spec(spec, base)
        self.tokenizer = SlowTokenizer(fit_tokenizer(base, template))
        self.model = load_trainable(base, self.tokenizer.vocab_size)
        self.optimizer = make_optimizer(self.model, spec)
        run = TrainingRun(job_id="job-1", attempt=1, dataset_id="0" * 64, spec=spec)
        tokenizer: Any = self.tokenizer
        self.folder = folder / "checkpoints"
        self.saver = Saver(self.folder, Identity(run, template, tokenizer, base), ALONE)

    def step(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()

    def save(self, step: int, *, wait_for_it: bool = False) -> list[Any]:
        metrics = Metrics(loss=1.0, epoch=0.5)
        state = RunState(step, Cursor(0, step))
        return self.saver.save(
            self.model, self.optimizer, state, 100, metrics, wait_for_it=wait_for_it
        )


@pytest.fixture
def training(tmp_path: Path) -> Training:
    training = Training(tmp_path)
    training.step()
    return training


def test_a_checkpoint_holds_what_was_there_when_it_began(training: Training) -> None:
    weights = {name: each.clone() for name, each in training.model.named_parameters()}
    moments = training.optimizer.state[next(iter(training.model.parameters()))]["exp_avg"].clone()
    assert training.save(10) == []
    training.step()
    assert complete_checkpoints(training.folder) == []
    training.tokenizer.may_save.set()

    (written,) = training.saver.finish()

    assert (written.step, written.folder) == (10, checkpoint_name(10, 1))
    assert 0 < written.stall_seconds <= written.seconds
    folder = training.folder / written.folder
    manifest = verify(folder)
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    assert manifest.files.keys() >= {"config.json", "tokenizer.json", "state/state.json"}
    state = load_state(folder, training.model, training.optimizer, ALONE)
    assert state == RunState(10, Cursor(0, 10))
    restored = training.optimizer.state[next(iter(training.model.parameters()))]["exp_avg"]
    assert torch.equal(restored, moments)


def test_training_is_not_held_up_by_a_slow_disk(training: Training) -> None:
    training.save(10)
    assert training.saver.poll() == []
    training.step()
    assert training.saver.poll() == []
    training.tokenizer.may_save.set()
    assert [one.step for one in training.saver.finish()] == [10]
    assert training.saver.poll() == []


def test_a_checkpoint_waits_for_the_one_before(training: Training) -> None:
    training.save(10)
    training.tokenizer.may_save.set()
    assert [one.step for one in training.save(20)] == [10]
    assert [one.step for one in training.save(30, wait_for_it=True)] == [20, 30]
    assert [path.name for path in complete_checkpoints(training.folder)] == [
        checkpoint_name(step, 1) for step in (10, 20, 30)
    ]


def test_memory_for_copies_is_taken_once(training: Training) -> None:
    training.tokenizer.may_save.set()
    training.save(10)
    taken = training.saver._buffers.size_bytes
    training.save(20)
    training.saver.finish()
    assert training.saver._buffers.size_bytes == taken
    parameters = sum(each.numel() for each in training.model.parameters())
    from corral.training.snapshot import snapshot_bytes

    assert taken == snapshot_bytes(parameters, parameters, 1)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EIO, StorageFailedError)],
)
def test_a_disk_that_fails_is_told_at_the_next_step_and_the_last_checkpoint_stays(
    training: Training, number: int, error: type[CorralError]
) -> None:
    training.tokenizer.may_save.set()
    training.save(10, wait_for_it=True)
    training.tokenizer.errno = number
    training.save(20)
    with pytest.raises(error, match="step 20"):
        training.saver.finish()
    assert [path.name for path in training.folder.iterdir()] == [checkpoint_name(10, 1)]
    verify(training.folder / checkpoint_name(10, 1))
    # Space is back.
    training.tokenizer.errno = 0
    assert [one.step for one in training.save(20, wait_for_it=True)] == [20]


def test_tensors_are_written_as_safetensors_reads_them(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(5, 3),
        "short": torch.randn(4, 4).to(torch.bfloat16).T,
        "scalar": torch.tensor(2.5),
        "nothing": torch.empty(0, 7),
        "count": torch.arange(3),
    }
    path = tmp_path / "x.safetensors"
    stored = [StoredTensor.of(name, tensor) for name, tensor in tensors.items()]
    path.write_bytes(b"".join(safetensors_pieces(stored, {"format": "pt"})))
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
