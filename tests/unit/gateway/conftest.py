from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.gateway_builders import Gateway, gateway


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose inference answers "Hello there"."""
    async with gateway(tmp_path) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """The same for all of a module's tests that only ask for what is refused."""
    async with gateway(tmp_path_factory.mktemp("door")) as found:
        yield found
