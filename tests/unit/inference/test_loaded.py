"""Models come into memory once, stay while they are used, and make room for each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.errors import BusyError, CheckpointCorruptError, InvalidRequestError
from corral.inference.loaded import ModelCache

MIB = 1024**2
SECONDS = 10
A, B, C = Path("a"), Path("b"), Path("c")


@dataclass(frozen=True)
class Weights:
    """A model that is only a size."""

    folder: Path
    parts: dict[Hashable, int]


class Disk:
    """Folders with sizes; counts loads, holds or fails them when told."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = {Path(name): size for name, size in sizes.items()}
        # Bytes that all models share.
        self.base = 0
        self.loads: list[Path] = []
        self.broken: set[Path] = set()
        self.may_load = threading.Event()
        self.may_load.set()
        self.loading = threading.Event()

    def load(self, folder: Path) -> Weights:
        self.loads.append(folder)
        self.loading.set()
        assert self.may_load.wait(SECONDS)
        if folder in self.broken:
            raise CheckpointCorruptError(f"{folder} is not what was written.")
        return Weights(folder, self.estimate(folder))

    def estimate(self, folder: Path) -> dict[Hashable, int]:
        shared: dict[Hashable, int] = {"base": self.base} if self.base else {}
        return {folder: self.sizes[folder], **shared}

    def cache(self, budget: int) -> ModelCache[Weights]:
        return ModelCache(self.load, self.estimate, budget=budget)


async def touch(cache: ModelCache[Weights], folder: Path) -> Weights:
    async with cache.use(folder) as model:
        return model


async def test_a_model_is_loaded_once_and_kept() -> None:
    disk = Disk(a=10)
    cache = disk.cache(100)
    assert not cache.is_loaded(A)
    assert await touch(cache, A) is await touch(cache, A)
    assert cache.is_loaded(A)
    assert disk.loads == [A]


async def test_a_model_that_two_ask_for_at_once_is_loaded_once() -> None:
    disk = Disk(a=10)
    cache = disk.cache(100)
    models = await asyncio.gather(*(touch(cache, A) for _ in range(5)))
    assert len({id(model) for model in models}) == 1
    assert disk.loads == [A]


async def test_the_longest_unused_makes_room() -> None:
    disk = Disk(a=40, b=40, c=40)
    cache = disk.cache(100)
    for folder in (A, B, A, C):
        await touch(cache, folder)
    assert [cache.is_loaded(folder) for folder in (A, B, C)] == [True, False, True]


async def test_a_model_in_use_is_never_evicted() -> None:
    disk = Disk(a=60, b=60)
    cache = disk.cache(100)
    async with cache.use(A):
        with pytest.raises(BusyError, match="CORRAL_INFERENCE_MEMORY"):
            await touch(cache, B)
        assert cache.is_loaded(A)
    await touch(cache, B)
    assert not cache.is_loaded(A)


async def test_nothing_is_evicted_for_a_model_that_does_not_fit_anyway() -> None:
    disk = Disk(a=30, b=50, c=60)
    cache = disk.cache(100)
    await touch(cache, A)
    async with cache.use(B):
        with pytest.raises(BusyError):
            await touch(cache, C)
    assert cache.is_loaded(A)


async def test_a_model_above_the_budget_is_refused_with_both_sizes() -> None:
    disk = Disk(a=5000 * MIB)
    with pytest.raises(InvalidRequestError, match=r"needs 4\.9 GiB .* may use 4\.0 GiB") as refused:
        await touch(disk.cache(4096 * MIB), A)
    assert "CORRAL_INFERENCE_MEMORY" in refused.value.hint
    assert disk.loads == []


async def test_a_model_that_is_loaded_answers_while_another_loads() -> None:
    disk = Disk(a=10, b=10)
    cache = disk.cache(100)
    await touch(cache, A)
    disk.loading.clear()
    disk.may_load.clear()
    loading = asyncio.create_task(touch(cache, B))
    assert await asyncio.to_thread(disk.loading.wait, SECONDS)
    assert (await touch(cache, A)).folder == A
    assert not cache.is_loaded(B)
    disk.may_load.set()
    assert (await loading).folder == B


async def test_a_failed_load_is_everybodys_error_and_is_tried_again() -> None:
    disk = Disk(a=10)
    disk.broken.add(A)
    cache = disk.cache(100)
    results = await asyncio.gather(touch(cache, A), touch(cache, A), return_exceptions=True)
    assert [type(result) for result in results] == [CheckpointCorruptError] * 2
    disk.broken.clear()
    assert (await touch(cache, A)).folder == A


async def test_a_caller_who_goes_away_does_not_end_the_load_for_others() -> None:
    disk = Disk(a=10)
    disk.may_load.clear()
    cache = disk.cache(100)
    gone = asyncio.create_task(touch(cache, A))
    assert await asyncio.to_thread(disk.loading.wait, SECONDS)
    stays = asyncio.create_task(touch(cache, A))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    disk.may_load.set()
    assert (await stays).folder == A
    assert disk.loads == [A]


async def test_what_models_share_is_counted_once() -> None:
    disk = Disk(a=10, b=10, c=10)
    disk.base = 60
    cache = disk.cache(90)
    await touch(cache, A)
    assert (cache.loaded_bytes, cache.bytes_of(A)) == (70, 70)
    await touch(cache, B)
    await touch(cache, C)
    assert (cache.loaded_bytes, cache.loaded) == (90, 3)
    assert [cache.bytes_of(folder) for folder in (A, B, C)] == [10, 10, 10]


async def test_what_models_share_goes_with_the_last_of_them() -> None:
    disk = Disk(a=10, b=10)
    disk.base = 60
    cache = disk.cache(80)
    await touch(cache, A)
    await touch(cache, B)
    disk.base = 0
    disk.sizes[C] = 70
    await touch(cache, C)
    assert [cache.is_loaded(folder) for folder in (A, B, C)] == [False, False, True]
    assert cache.loaded_bytes == 70


async def test_a_better_one_replaces_a_model_for_those_who_come_later() -> None:
    disk = Disk(a=40)
    better = Weights(A, {A: 30})
    may_improve = threading.Event()

    def improve(folder: Path, model: Weights) -> Weights | None:
        assert may_improve.wait(SECONDS)
        return better

    cache = ModelCache(disk.load, disk.estimate, budget=100, improve=improve)
    async with cache.use(A) as first:
        may_improve.set()
        async with asyncio.timeout(SECONDS):
            while cache.loaded_bytes != 30:  # noqa: ASYNC110 - the cache knows no Event of ours
                await asyncio.sleep(0)
        assert await touch(cache, A) is better
        assert first is not better
    cache.close()


async def test_what_can_not_be_improved_still_answers() -> None:
    disk = Disk(a=40)
    tried = threading.Event()

    def improve(folder: Path, model: Weights) -> Weights | None:
        tried.set()
        raise CheckpointCorruptError("gone")

    cache = ModelCache(disk.load, disk.estimate, budget=100, improve=improve)
    first = await touch(cache, A)
    assert await asyncio.to_thread(tried.wait, SECONDS)
    assert await touch(cache, A) is first
    cache.close()


async def test_what_others_have_of_the_budget_is_not_given_twice() -> None:
    disk = Disk(a=60)
    cache = ModelCache(disk.load, disk.estimate, budget=100, reserved=lambda: 50)
    with pytest.raises(BusyError):
        await touch(cache, A)
