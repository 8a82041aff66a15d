"""One launcher out of several, and what a deployment refuses before a job is queued."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.launcher import described
from tests.worker_builders import ScriptedLauncher, succeeds

from corral.errors import BackendRefusedError, LaunchError, SpecError
from corral.launchers.base import RunStatus
from corral.launchers.registry import backends_of
from corral.launchers.routing import RoutingLauncher
from corral.settings import Settings
from corral.spec import TrainingSpec, parse_spec
from corral.trainer.backends import Backends
from corral.volume import Volume

TOKEN = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"}


class Named(ScriptedLauncher):
    """A launcher whose handles say its name."""

    def __init__(self, kind: str, volume: Volume) -> None:
        super().__init__(volume, succeeds)
        self.kind = kind
        self.polled: list[str] = []

    async def start(self, run_file: Path, run: object) -> str:
        return f'{{"kind": "{self.kind}"}}'

    async def poll(self, handle: str) -> RunStatus:
        self.polled.append(handle)
        return RunStatus(is_running=True)


@pytest.fixture
def backends(tmp_path: Path) -> dict[str, Named]:
    return {kind: Named(kind, Volume(tmp_path)) for kind in ("local", "modal")}


@pytest.fixture
def launcher(backends: dict[str, Named]) -> RoutingLauncher:
    return RoutingLauncher(
        "local", {"local": lambda: backends["local"], "modal": lambda: backends["modal"]}
    )


async def test_a_run_starts_where_its_spec_says_and_is_found_by_its_handle(
    launcher: RoutingLauncher, backends: dict[str, Named], tmp_path: Path
) -> None:
    run_file = tmp_path / "runs" / "job-1" / "a1" / "run.json"
    there = await launcher.start(run_file, described(run_file, backend="modal"))
    here = await launcher.start(run_file, described(run_file))
    await launcher.poll(there)
    await launcher.poll(here)
    assert backends["modal"].polled == [there] != [here] == backends["local"].polled


async def test_a_foreign_handle_is_refused(launcher: RoutingLauncher) -> None:
    with pytest.raises(LaunchError):
        await launcher.poll("something")
    with pytest.raises(SpecError, match="'kubernetes'"):
        await launcher.poll('{"kind": "kubernetes"}')


def test_modal_is_there_wherever_there_is_a_token() -> None:
    assert backends_of(Settings(), {}) == ("local",)
    assert backends_of(Settings(), TOKEN) == ("local", "modal")
    assert backends_of(Settings(launcher="modal"), TOKEN) == ("modal",)


def test_a_backend_that_is_not_there_is_refused_with_what_to_set() -> None:
    with pytest.raises(BackendRefusedError, match="can't run jobs on 'modal'") as caught:
        Backends(Settings(), {}).check(TrainingSpec(backend="modal"))
    assert "MODAL_TOKEN_ID" in caught.value.hint


def test_fields_of_modal_need_modal() -> None:
    backends = Backends(Settings(), TOKEN)
    with pytest.raises(SpecError, match="gpu: only for backend modal"):
        backends.check(TrainingSpec(gpu="H100"))
    backends.check(TrainingSpec(gpu="H100", backend="modal"))
    Backends(Settings(launcher="modal"), TOKEN).check(TrainingSpec(gpu="H100"))
    with pytest.raises(SpecError, match="max_cost: only for backend modal, not local"):
        parse_spec({"backend": "local", "max_cost": 1.0})


def test_an_impossible_gpu_is_refused_before_the_job_is_queued() -> None:
    with pytest.raises(SpecError, match="V100"):
        Backends(Settings(), TOKEN).check(TrainingSpec(backend="modal", gpu="V100"))


@pytest.mark.parametrize("hours", [0, 25])
def test_a_container_lives_for_a_day_at_most(hours: float) -> None:
    with pytest.raises(SpecError, match="timeout_hours"):
        parse_spec({"backend": "modal", "timeout_hours": hours})
