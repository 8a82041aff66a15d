"""ModalLauncher against a double of Modal that runs what is deployed: the conformance tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.conformance import launcher as conformance
from tests.modal_builders import double as double
from tests.modal_double.server import ModalDouble
from tests.modal_launchers import modal_launcher, write_rows

from corral.launchers.base import Launcher
from corral.launchers.modal.launcher import ModalLauncher

pytest.importorskip("modal")


class TestModalLauncher(conformance.LauncherConformance):
    @pytest.fixture
    async def new_launcher(
        self, double: ModalDouble, tmp_path: Path
    ) -> AsyncIterator[Callable[[], Launcher]]:
        write_rows(tmp_path)
        made: list[ModalLauncher] = []

        def new() -> Launcher:
            made.append(modal_launcher(double, tmp_path))
            return made[-1]

        yield new
        for launcher in made:
            await launcher.close()
