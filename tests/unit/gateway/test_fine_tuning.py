"""/v1/fine_tuning/jobs: OpenAI's requests become training specs, and jobs become what its SDK types."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gateway_builders import Gateway
from tests.job_builders import checkpoint, failure, measured
from tests.trainer_builders import ROWS, jsonl

from corral.jobs.records import JobState, Logged, StateChanged

PATH = "/v1/fine_tuning/jobs"


@pytest.fixture
async def file(door: Gateway) -> str:
    return str((await door.upload(jsonl(ROWS)))["id"])


async def created(door: Gateway, file: str, **fields: Any) -> dict[str, Any]:
    answer = await door.create_job(file, **fields)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def test_a_job_has_every_field_that_openais_sdk_types(door: Gateway, file: str) -> None:
    job = await created(door, file, suffix="mine", seed=7, metadata={"for": "a test"})

    assert {name: job[name] for name in job if name not in ("id", "created_at", "corral")} == {
        "object": "fine_tuning.job",
        "status": "queued",
        "model": str(door.base),
        "training_file": file,
        "validation_file": None,
        "seed": 7,
        "metadata": {"for": "a test"},
        "hyperparameters": (
            hyperparameters := {
                "n_epochs": 3,
                "batch_size": 32,
                "learning_rate_multiplier": 1.0,
            }
        ),
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "estimated_finish": None,
        "result_files": [],
        "trained_tokens": None,
        "integrations": [],
        "organization_id": "corral",
    }
    assert (await door.http.get(f"{PATH}/{job['id']}")).json() == job


@pytest.mark.parametrize("place", ["method", "hyperparameters"])
async def test_hyperparameters_become_the_specs_fields(
    door: Gateway, file: str, place: str
) -> None:
    asked = {"n_epochs": 2, "batch_size": 6, "learning_rate_multiplier": 0.5}
    body: Any = asked
    if place == "method":
        body = {"type": "supervised", "supervised": {"hyperparameters": asked}}
    job = await created(door, file, **{place: body}, preamble="Be kind.", tuning="lora")

    assert job["hyperparameters"] == asked
    spec = (await door.store.get(job["id"])).spec
    assert (spec.epochs, spec.batch_size, spec.gradient_accumulation_steps) == (2, 3, 2)
    assert (spec.preamble, spec.tuning, spec.learning_rate_multiplier) == ("Be kind.", "lora", 0.5)


async def test_auto_is_the_servers_own_choice(door: Gateway, file: str) -> None:
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    plain = await created(door, file)
    asked = await created(door, file, hyperparameters=auto)
    assert asked["hyperparameters"] == plain["hyperparameters"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"validation_file": "file-x"}, "validation_file", "unsupported_parameter"),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "unsupported_parameter"),
        ({"method": {"type": "dpo"}}, "method.type", "unsupported_parameter"),
        ({"epochs": 3}, "epochs", "unsupported_parameter"),
        ({"epoch": 3}, "epoch", "unknown_parameter"),
        ({"hyperparameters": {"n_epoch": 3}}, "hyperparameters.n_epoch", "unknown_parameter"),
        ({"suffix": "A B"}, "suffix", "spec_invalid"),
        ({"lora_rank": 0}, "lora_rank", "spec_invalid"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 2}, "learning_rate": 1e-5},
            None,
            "spec_invalid",
        ),
        (
            {"hyperparameters": {"batch_size": 6}, "gradient_accumulation_steps": 2},
            "gradient_accumulation_steps",
            "spec_invalid",
        ),
        ({"hyperparameters": {"batch_size": 7}, "batch_size": 2}, None, "spec_invalid"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x", "invalid_value"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_can_not_be_done_is_refused_by_name(
    one_door: Gateway, fields: dict[str, Any], param: str | None, code: str
) -> None:
    file = (await one_door.upload(jsonl(ROWS)))["id"]
    answer = await one_door.create_job(file, **fields)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    if param is not None:
        assert error["param"] == param
    assert (await one_door.http.get(PATH)).json()["data"] == []


async def test_the_same_idempotency_key_is_one_job(door: Gateway, file: str) -> None:
    body = {"model": str(door.base), "training_file": file}
    headers = {"Idempotency-Key": "k"}
    first, second = [
        (await door.http.post(PATH, json=body, headers=headers)).json() for _ in range(2)
    ]
    assert first["id"] == second["id"]


async def test_jobs_are_listed_in_pages_and_by_metadata(door: Gateway, file: str) -> None:
    jobs = [
        (await created(door, file, metadata=notes))["id"]
        for notes in ({"a": "1"}, {"a": "1", "b": "2"}, {})
    ]

    async def listed(**params: Any) -> tuple[list[str], bool]:
        page = (await door.http.get(PATH, params=params)).json()
        return [job["id"] for job in page["data"]], page["has_more"]

    assert await listed() == (jobs[::-1], False)
    assert await listed(limit=1) == ([jobs[2]], True)
    assert await listed(after=jobs[2], limit=1) == ([jobs[1]], True)
    assert await listed(**{"metadata[a]": "1"}) == ([jobs[1], jobs[0]], False)
    assert await listed(**{"metadata[a]": "1", "metadata[b]": "2"}) == ([jobs[1]], False)
    assert await listed(metadata="null") == ([jobs[2]], False)
    assert (await door.http.get(PATH, params={"after": "job-none"})).status_code == 400


async def test_events_come_newest_first_and_pages_miss_none(door: Gateway, file: str) -> None:
    job = await created(door, file)
    await door.store.claim("w", 60)
    await door.store.record(job["id"], 1, [Logged(text="hello"), measured(1), measured(2)])
    path = f"{PATH}/{job['id']}/events"

    whole = (await door.http.get(path)).json()
    assert [event["message"] for event in whole["data"]] == [
        "Step 2/100: training loss=2.50",
        "Step 1/100: training loss=2.50",
        "The job is running: training.",
        "hello",
        "The job is starting: claimed by w.",
        "The job is queued: submitted.",
    ]
    assert whole["data"][0]["type"] == "metrics"
    assert whole["data"][0]["data"]["train_loss"] == 2.5
    paged: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = (await door.http.get(path, params={"limit": 4, **after})).json()
        paged += page["data"]
        if not page["has_more"]:
            break
        after = {"after": page["data"][-1]["id"]}
    assert paged == whole["data"]


async def test_a_finished_job_names_its_model_and_checkpoints(door: Gateway, file: str) -> None:
    job = await created(door, file, suffix="mine")
    await door.store.claim("w", 60)
    await door.store.publish(job["id"], 1, checkpoint(5))
    await door.store.publish(job["id"], 1, checkpoint(10))
    running = (await door.http.get(f"{PATH}/{job['id']}")).json()
    assert (running["status"], running["fine_tuned_model"]) == ("running", None)
    await door.store.finish(job["id"], 1, JobState.SUCCEEDED)

    done = (await door.http.get(f"{PATH}/{job['id']}")).json()
    assert (done["status"], done["fine_tuned_model"]) == (
        "succeeded",
        f"ft:base:mine:{job['id']}",
    )
    assert done["finished_at"] >= done["created_at"]
    path = f"{PATH}/{job['id']}/checkpoints"
    first = (await door.http.get(path, params={"limit": 1})).json()
    (newest,) = first["data"]
    assert newest["step_number"] == 10
    assert newest["metrics"] == {"step": 10, "train_loss": 2.25, "full_valid_loss": None}
    assert newest["fine_tuned_model_checkpoint"] == f"ft:base:mine:{job['id']}:ckpt-step-10"
    rest = (await door.http.get(path, params={"after": newest["id"]})).json()
    assert [one["step_number"] for one in rest["data"]] == [5]


async def test_a_failed_job_says_why(door: Gateway, file: str) -> None:
    job = await created(door, file)
    await door.store.claim("w", 60)
    await door.store.finish(job["id"], 1, JobState.FAILED, failure("It died."))

    failed = (await door.http.get(f"{PATH}/{job['id']}")).json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "training_crashed", "message": "It died.", "param": None}


async def test_a_cancelled_job_is_told_once_it_has_stopped(door: Gateway, file: str) -> None:
    job = await created(door, file)
    await door.store.claim("w", 60)

    async def worker() -> None:
        await until_state(door, job["id"], JobState.CANCELLING)
        await door.store.finish(job["id"], 1, JobState.CANCELLED)

    working = asyncio.create_task(worker())
    cancelled = await door.http.post(f"{PATH}/{job['id']}/cancel")
    await working
    assert cancelled.json()["status"] == "cancelled"


async def test_a_job_is_paused_and_resumed(door: Gateway, file: str) -> None:
    job = await created(door, file)
    paused = await door.http.post(f"{PATH}/{job['id']}/pause")
    assert paused.json()["status"] == "paused"
    resumed = await door.http.post(f"{PATH}/{job['id']}/resume")
    assert resumed.json()["status"] == "queued"
    await door.http.post(f"{PATH}/{job['id']}/cancel")
    assert (await door.http.post(f"{PATH}/{job['id']}/resume")).status_code == 409


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
async def test_an_unknown_job_is_not_found(door: Gateway, path: str) -> None:
    answer = await door.http.get(f"{PATH}/job-none{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "job_not_found"


async def until_state(door: Gateway, job_id: str, state: JobState) -> None:
    async for event in door.store.watch(job_id):
        if isinstance(event.body, StateChanged) and event.body.state is state:
            return
