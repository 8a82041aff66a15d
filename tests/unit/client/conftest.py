"""Fake services, and clients of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.cli.fake_server import FakeInference, FakeTrainer, serving

import corral
from corral.v1 import inference_pb2


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference([inference_pb2.Model(name="gpt2", is_base=True)])


@pytest.fixture
def address(trainer: FakeTrainer, inference: FakeInference) -> Iterator[str]:
    with serving(trainer, inference) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[corral.Client]:
    with corral.Client(address, patience_seconds=5) as client:
        yield client
