"""Tiny models, made once for the room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny_models import tiny_gpt2, tiny_llama


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(params=["gpt2", "llama"])
def model_folder(request: pytest.FixtureRequest) -> Path:
    """Each of the two architectures."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return folder
