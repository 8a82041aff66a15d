"""OpenAI's own Python package against all of Corral: each step of their fine-tuning guide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conditions import wait_for
from tests.running_corral import SECONDS, Up
from tests.tiny_models import tiny_gpt2
from tokenizers import Tokenizer

openai = pytest.importorskip("openai", reason="needs the openai package (pip install openai)")

pytestmark = pytest.mark.torch

ROWS = [
    {"messages": [{"role": "user", "content": f"Say {w}"}, {"role": "assistant", "content": w}]}
    for w in "abcdefgh"
]
ENDS = ("succeeded", "failed", "cancelled")
QUESTION: Any = [{"role": "user", "content": "Say a"}]


@pytest.fixture(scope="module")
def client(corral: Up) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=f"{corral.status['gateway']}/v1", api_key="none", max_retries=0
    ) as found:
        yield found


@pytest.fixture(scope="module")
def base(corral: Up) -> str:
    return str(tiny_gpt2(corral.data.parent / "tiny"))


@pytest.fixture(scope="module")
def rows(corral: Up) -> Path:
    path = corral.data.parent / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def file(client: Any, rows: Path) -> Any:
    with rows.open("rb") as opened:
        return client.files.create(file=opened, purpose="fine-tune")


def small(base: str, file: Any, **fields: Any) -> dict[str, Any]:
    own = {"max_length": 128, "eval_prompts": 0, "template": "chatml"}
    return {
        "model": base,
        "training_file": file.id,
        "extra_body": own | fields.pop("extra_body", {}),
        **fields,
    }


@pytest.fixture(scope="module")
def job(client: Any, base: str, file: Any) -> Any:
    """A job that has succeeded."""
    created = client.fine_tuning.jobs.create(
        **small(base, file, suffix="mine", seed=7, metadata={"for": "the test"}),
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": 2,
                    "batch_size": 4,
                    "learning_rate_multiplier": 2.0,
                }
            },
        },
    )
    return ended(client, created.id)


def ended(client: Any, job_id: str) -> Any:
    def look() -> Any:
        found = client.fine_tuning.jobs.retrieve(job_id)
        return found if found.status in ENDS else None

    return wait_for(look, SECONDS)


def test_the_file_is_uploaded_checked_and_read_back(client: Any, file: Any, rows: Path) -> None:
    assert (file.purpose, file.status) == ("fine-tune", "processed")
    assert client.files.wait_for_processing(file.id).id == file.id
    assert client.files.content(file.id).read() == rows.read_bytes()
    assert file.id in [one.id for one in client.files.list(purpose="fine-tune")]


def test_the_job_runs_to_a_model_of_its_own(client: Any, job: Any) -> None:
    assert (job.status, job.error) == ("succeeded", None)
    assert job.fine_tuned_model == f"ft:tiny:mine:{job.id}"
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == 4
    assert job.method.supervised.hyperparameters.learning_rate_multiplier == 2.0
    assert job.finished_at >= job.created_at
    listed = client.fine_tuning.jobs.list(extra_query={"metadata[for]": "the test"})
    assert [one.id for one in listed] == [job.id]


def test_its_events_tell_all_of_it(client: Any, job: Any) -> None:
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    metrics = [event for event in events if event.type == "metrics"]
    steps = [event.data["step"] for event in metrics if "train_loss" in event.data]
    assert steps == [4, 3, 2, 1]
    assert events[0].message.startswith("The job has successfully completed")
    assert len({event.id for event in events}) == len(events)


def test_its_checkpoints_can_be_chatted_with(client: Any, job: Any) -> None:
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.step_number == 4
    assert checkpoint.metrics.train_loss > 0
    answer = client.chat.completions.create(
        model=checkpoint.fine_tuned_model_checkpoint, messages=QUESTION, max_tokens=4
    )
    assert answer.model == checkpoint.fine_tuned_model_checkpoint


def test_the_model_is_listed_and_answers(client: Any, job: Any) -> None:
    model = client.models.retrieve(job.fine_tuned_model)
    assert model.id in [one.id for one in client.models.list()]
    answers = client.chat.completions.create(
        model=job.fine_tuned_model, messages=QUESTION, max_tokens=6, n=2, temperature=0
    )
    first, second = (choice.message.content for choice in answers.choices)
    assert first == second
    assert answers.usage.completion_tokens <= 12


def test_a_stream_says_what_the_whole_answer_says(client: Any, job: Any) -> None:
    asked: Any = {"model": job.fine_tuned_model, "messages": QUESTION, "max_tokens": 6, "seed": 3}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_completions_and_responses_answer_too(client: Any, job: Any) -> None:
    completion = client.completions.create(
        model=job.fine_tuned_model, prompt=["Say", "a b"], max_tokens=3, logprobs=2
    )
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert len(completion.choices[0].logprobs.token_logprobs) <= 3
    response = client.responses.create(
        model=job.fine_tuned_model, input="Say a", max_output_tokens=5
    )
    assert response.status in ("completed", "incomplete")
    kinds = [
        event.type
        for event in client.responses.create(
            model=job.fine_tuned_model, input="Say a", max_output_tokens=5, stream=True
        )
    ]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")


def test_an_echoed_prompt_is_the_same_as_text_and_as_tokens(client: Any, job: Any) -> None:
    asked: Any = {"model": job.fine_tuned_model, "max_tokens": 0, "echo": True, "logprobs": 1}
    from_text = client.completions.create(**asked, prompt="to be or not").choices[0]
    tokenizer = Tokenizer.from_file(f"{job.model}/tokenizer.json")
    ids = tokenizer.encode("to be or not").ids
    from_ids = client.completions.create(**asked, prompt=ids).choices[0]

    assert from_text.text == from_ids.text == "to be or not"
    assert from_text.logprobs == from_ids.logprobs
    likelihoods = from_text.logprobs.token_logprobs
    assert (len(likelihoods), likelihoods[0]) == (len(ids), None)
    assert all(one < 0 for one in likelihoods[1:])
    # What lm-eval reads: one token more is written, and its likelihoods stand behind the prompt's.
    longer = client.completions.create(**{**asked, "max_tokens": 1}, prompt=ids).choices[0]
    assert longer.logprobs.token_logprobs[: len(ids)] == likelihoods


def test_an_answer_keeps_to_a_json_schema(client: Any, job: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "warm": {"type": "boolean"}},
        "required": ["colour", "warm"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    asked: Any = {"model": job.fine_tuned_model, "messages": QUESTION, "max_tokens": 80}
    found = client.chat.completions.create(**asked, response_format=wanted).choices[0]
    assert found.finish_reason == "stop"
    assert set(json.loads(found.message.content)) == {"colour", "warm"}
    wanted["json_schema"]["schema"] = {"type": "nothing"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, response_format=wanted)
    assert caught.value.param == "json_schema"


def test_a_running_job_is_paused_resumed_and_cancelled(client: Any, base: str, file: Any) -> None:
    job = client.fine_tuning.jobs.create(
        **small(base, file, extra_body={"max_steps": 100_000, "checkpoint_every": 100_000}),
        hyperparameters={"n_epochs": 100_000, "batch_size": 1},
    )
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).corral["progress"], SECONDS)

    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    (saved,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    wait_for(
        lambda: (
            client.fine_tuning.jobs.retrieve(job.id).corral["progress"]["step"] > saved.step_number
        ),
        SECONDS,
    )
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_stream_that_is_left_frees_its_slot(client: Any, job: Any, corral: Up) -> None:
    asked: Any = {
        "model": job.fine_tuned_model,
        "messages": QUESTION,
        "stream": True,
        "extra_body": {"loop_guard": False},
    }
    # More than there are slots and places to wait, one after the other.
    for _ in range(80):
        with client.chat.completions.create(**asked) as stream:
            next(iter(stream))


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "ft:no:such:job-1"}, openai.NotFoundError, None),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "tools"),
        ({"messages": QUESTION * 200}, openai.BadRequestError, None),
    ],
)
def test_errors_are_of_the_classes_that_scripts_catch(
    client: Any, job: Any, fields: dict[str, Any], error: Any, param: str | None
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            **{"model": job.fine_tuned_model, "messages": QUESTION, **fields}
        )
    assert caught.value.param == param
    assert caught.value.request_id


def test_a_model_and_a_file_can_be_deleted(client: Any, base: str, rows: Path) -> None:
    other = rows.with_name("other.jsonl")
    other.write_text(rows.read_text() * 2)
    with other.open("rb") as opened:
        file = client.files.create(file=opened, purpose="fine-tune")
    created = client.fine_tuning.jobs.create(
        **small(base, file, extra_body={"max_steps": 1}), hyperparameters={"batch_size": 2}
    )
    job = ended(client, created.id)

    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=job.fine_tuned_model, messages=QUESTION)
    assert client.files.delete(file.id).deleted
    assert file.id not in [one.id for one in client.files.list()]
