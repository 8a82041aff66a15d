from __future__ import annotations

import json

from corral.cli.plain import to_plain
from corral.v1 import inference_pb2, trainer_pb2


def test_numbers_stay_numbers_and_states_lose_their_prefix() -> None:
    job = trainer_pb2.TrainingJob(id="job-1", state="JOB_STATE_RUNNING", effective_batch_size=2**40)
    job.created_at.FromSeconds(0)
    job.progress.time_left.FromMilliseconds(1500)

    plain = json.loads(json.dumps(to_plain(job)))

    assert plain["state"] == "RUNNING"
    assert plain["effective_batch_size"] == 2**40
    assert plain["created_at"] == "1970-01-01T00:00:00+00:00"
    assert plain["progress"]["time_left"] == 1.5


def test_what_is_not_set_is_null_and_not_a_default() -> None:
    job = trainer_pb2.TrainingJob()
    job.spec.epochs = 0

    plain = to_plain(job)

    assert plain["failure"] is None
    assert plain["finished_at"] is None
    assert plain["spec"]["epochs"] == 0
    assert plain["spec"]["learning_rate"] is None
    assert plain["checkpoints"] == []


def test_only_the_member_of_a_oneof_that_is_set_is_there() -> None:
    plain = to_plain(inference_pb2.ChatResponse(text="so"))

    assert plain == {"text": "so", "logprobs": []}


def test_nested_enums_lose_the_prefix_of_their_own_name() -> None:
    problem = trainer_pb2.RowProblem(severity="SEVERITY_ERROR")  # type: ignore[arg-type]

    assert to_plain(problem)["severity"] == "ERROR"
