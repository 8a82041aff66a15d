"""Which launcher the settings name."""

from __future__ import annotations

import pytest

from corral.errors import InvalidRequestError
from corral.launchers.local import LocalLauncher
from corral.launchers.registry import launcher_for
from corral.settings import Settings


def test_runs_run_on_this_machine_by_default() -> None:
    assert isinstance(launcher_for(Settings()), LocalLauncher)


def test_an_unknown_launcher_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="'cloud'") as caught:
        launcher_for(Settings(launcher="cloud"))
    assert "local" in caught.value.hint
