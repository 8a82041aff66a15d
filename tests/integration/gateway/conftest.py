from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.running_corral import Up, running

if sys.platform != "linux":
    pytest.skip("tests.running_corral reads /proc", allow_module_level=True)


@pytest.fixture(scope="package")
def corral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All of Corral, as `corral up` runs it."""
    with running(tmp_path_factory.mktemp("gateway")) as up:
        yield up
