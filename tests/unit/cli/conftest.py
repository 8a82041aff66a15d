"""Fake services, and command lines that run against them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cli.builders import Corral
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving

from corral.cli.main import run
from corral.v1 import inference_pb2


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def inference() -> FakeInference:
    tuned = inference_pb2.Model(name="ft:gpt2::job-1:ckpt-step-4", job_id="job-1", step=4)
    return FakeInference([inference_pb2.Model(name="gpt2", is_base=True), tuned])


@pytest.fixture
def corral(
    trainer: FakeTrainer,
    inference: FakeInference,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Corral]:
    """Runs a command line against the fake services; returns exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    with serving(trainer, inference) as address:
        monkeypatch.setenv("CORRAL_SERVER", address)
        yield call
