from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.builders import Corral, log, state, step
from tests.unit.cli.fake_server import FakeInference, FakeTrainer
from tests.unit.cli.screen import Screen

from corral.v1 import trainer_pb2


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Say a", "output": "a"}\n')
    return tmp_path / "rows.jsonl"


def problem(line: int, severity: str) -> trainer_pb2.RowProblem:
    return trainer_pb2.RowProblem(
        row=line - 1,
        line=line,
        field="output",
        message="is empty.",
        severity=f"SEVERITY_{severity}",  # type: ignore[arg-type]  # by name
    )


def on_watch(trainer: FakeTrainer, *events: trainer_pb2.TrainingEvent) -> None:
    """What the next job's watch will show."""
    trainer.events = list(events)


def test_train_prints_the_jobs_id_alone_on_stdout(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    code, out, err = corral("train", rows)

    assert code == 0
    assert out.split() == list(trainer.jobs)
    assert "4 x 8 accumulated x 1 process = 32 examples a step" in err


def test_train_sends_only_the_fields_that_were_given(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    corral("train", rows, "--model", "gpt2", "--epochs", "2", "--preamble", "Be brief.")

    [request] = trainer.creations
    sent = {field.name: value for field, value in request.spec.ListFields()}
    assert sent == {"model": "gpt2", "epochs": 2, "preamble": "Be brief."}


def test_each_invocation_of_train_has_a_key_of_its_own(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    corral("train", rows)
    corral("train", rows)

    first, second = (request.idempotency_key for request in trainer.creations)
    assert len(first) >= 16
    assert first != second


def test_an_impossible_spec_is_refused_before_the_upload(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    code, out, err = corral("train", rows, "--epochs", "0")

    assert (code, out) == (2, "")
    assert "epochs" in err
    assert trainer.chunk_sizes == []


def test_a_model_folder_is_sent_by_its_absolute_path(
    corral: Corral,
    trainer: FakeTrainer,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    corral("train", rows, "--model", "./base")

    assert trainer.creations[0].spec.model == str(tmp_path.resolve() / "base")


@pytest.mark.parametrize("file", ["missing.jsonl", "."])
def test_what_is_no_file_is_not_uploaded(corral: Corral, trainer: FakeTrainer, file: str) -> None:
    code, _, err = corral("train", file)

    assert code == 2
    assert file in err
    assert trainer.creations == []


def test_train_shows_the_problems_of_the_file_with_their_lines(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    trainer.problems = [problem(line, "WARNING") for line in range(1, 13)]

    _, _, err = corral("train", rows)

    assert "warning: line 1 (row 0), output: is empty." in err
    assert "warning: line 10 (row 9), output: is empty." in err
    assert "line 11" not in err
    assert f"2 more problems (corral data check {rows})" in err


def test_train_tells_each_error_of_the_file_once_and_queues_nothing(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    trainer.problems = [problem(1, "ERROR")]

    code, out, err = corral("train", rows)

    assert (code, out) == (2, "")
    assert err.count("is empty.") == 1
    assert f"error: {rows} can't be trained on" in err
    assert trainer.creations == []


def test_train_json_prints_the_job(corral: Corral, trainer: FakeTrainer, rows: Path) -> None:
    _, out, _ = corral("train", rows, "--json")

    assert json.loads(out)["id"] in trainer.jobs


def test_watching_a_job_that_succeeds_ends_with_the_models_name(
    corral: Corral, trainer: FakeTrainer
) -> None:
    trainer.add_job("job-1", "SUCCEEDED", fine_tuned_model="ft:gpt2::job-1")
    on_watch(trainer, state(1, "RUNNING"), step(2, 1, 1), log(3, "noise"), state(4, "SUCCEEDED"))

    code, out, err = corral("jobs", "watch", "job-1")

    assert (code, out) == (0, "")
    assert "step 1/1" in err
    assert "loss 2.5000" in err
    assert "noise" not in err
    assert "corral chat ft:gpt2::job-1" in err


def test_watching_shows_the_log_when_asked(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "SUCCEEDED")
    on_watch(trainer, log(1, "a line of torchrun"), state(2, "SUCCEEDED"))

    assert "a line of torchrun" in corral("jobs", "watch", "job-1", "--log")[2]


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_a_runs_log_can_not_command_the_terminal(
    corral: Corral, trainer: FakeTrainer, term: str
) -> None:
    trainer.add_job("job-1", "SUCCEEDED")
    on_watch(trainer, log(1, "a\x1b]0;title\x07b"), state(2, "SUCCEEDED"))

    screen = Screen("jobs", "watch", "job-1", "--log", term=term)

    screen.wait_for("a\\x1b]0;title\\x07b")
    screen.wait_for("Done.")
    assert screen.exit_code() == 0


def test_a_job_that_fails_exits_with_its_errors_code_after_the_last_lines_of_its_log(
    corral: Corral, trainer: FakeTrainer
) -> None:
    failure = trainer_pb2.Failure(
        code="STORAGE_FULL", message="No space is left.", log_tail=["the last line"]
    )
    trainer.add_job("job-1", "FAILED", failure=failure)
    on_watch(trainer, state(1, "FAILED", failure=failure))

    code, _, err = corral("jobs", "watch", "job-1")

    assert code == 5
    assert "the last line" in err
    assert "error: Job job-1 failed: No space is left." in err


def test_a_cancelled_job_is_no_success(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "CANCELLED")
    on_watch(trainer, state(1, "CANCELLED"))

    code, _, err = corral("jobs", "watch", "job-1")

    assert code == 4
    assert "cancelled" in err


def test_watch_json_prints_an_event_a_line(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "SUCCEEDED")
    on_watch(trainer, step(1, 2, 1), state(2, "SUCCEEDED"))

    _, out, _ = corral("jobs", "watch", "job-1", "--json")

    first, second = map(json.loads, out.splitlines())
    assert first["metrics"]["progress"]["loss"] == 2.5
    assert second["state_change"]["state"] == "SUCCEEDED"


def test_jobs_are_listed_in_a_table_or_as_json(corral: Corral, trainer: FakeTrainer) -> None:
    progress = trainer_pb2.Progress(step=5, total_steps=20, loss=1.25)
    trainer.add_job("job-1", "RUNNING", progress=progress)
    trainer.add_job("job-2", "QUEUED")

    _, table, _ = corral("jobs", "list")
    _, out, _ = corral("jobs", "list", "--state", "running", "--json")

    header, first, second = table.splitlines()
    assert header.split() == ["JOB", "STATE", "MODEL", "STEP", "LOSS", "AGE"]
    assert first.split()[:5] == ["job-1", "RUNNING", "gpt2", "5/20", "1.2500"]
    assert second.split()[:5] == ["job-2", "QUEUED", "gpt2", "-", "-"]
    assert [(job["id"], job["state"]) for job in json.loads(out)] == [("job-1", "RUNNING")]


def test_an_unknown_state_is_refused_with_the_known_ones(corral: Corral) -> None:
    code, _, err = corral("jobs", "list", "--state", "sleeping")

    assert code == 2
    assert "succeeded" in err


def test_no_jobs_is_an_empty_result(corral: Corral) -> None:
    assert corral("jobs", "list")[:2] == (0, "")
    assert json.loads(corral("jobs", "list", "--json")[1]) == []


def test_an_unknown_job_exits_with_3_and_the_servers_hint(corral: Corral) -> None:
    code, out, err = corral("jobs", "show", "job-9")

    assert (code, out) == (3, "")
    assert err == "error: There is no job job-9.\ncorral jobs list shows them.\n"


def test_a_failed_job_shows_why(corral: Corral, trainer: FakeTrainer) -> None:
    failure = trainer_pb2.Failure(code="BUSY", message="Too much.", log_tail=["tail"])
    trainer.add_job("job-1", "FAILED", failure=failure)

    _, out, _ = corral("jobs", "show", "job-1")

    assert "BUSY: Too much." in out
    assert "| tail" in out


def test_a_job_shows_its_template_and_what_else_was_asked_for(
    corral: Corral, trainer: FakeTrainer
) -> None:
    job = trainer.add_job("job-1")
    job.spec.template, job.spec.suffix, job.spec.epochs, job.spec.seed = "alpaca", "ranch", 3, 7
    job.spec.preamble = "Be brief.\n" * 100

    lines = corral("jobs", "show", "job-1")[1].splitlines()

    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown.items() >= {"template": "alpaca", "suffix": "ranch", "seed": "7"}.items()
    assert shown["preamble"].startswith("Be brief. Be brief.")
    assert len(shown["preamble"]) <= 60
    assert "epochs" not in shown


def test_a_job_that_somebody_bills_for_shows_what_it_had_and_cost(
    corral: Corral, trainer: FakeTrainer
) -> None:
    job = trainer.add_job("job-1", "RUNNING", cost=0.25)
    job.spending.gpu = "A10:2"
    job.spending.queued.FromSeconds(90)
    job.spending.running.FromSeconds(600)

    lines = corral("jobs", "show", "job-1")[1].splitlines()

    assert "ran on           A10:2, 1 min 30 s in the queue, 10 min 00 s running" in lines
    assert "cost             $0.2500" in lines


def test_cancelling_says_the_new_state(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "RUNNING")

    code, out, _ = corral("jobs", "cancel", "job-1")

    assert (code, out.split()) == (0, ["job-1", "CANCELLED"])


def test_deleting_without_a_terminal_needs_yes(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "SUCCEEDED")

    code, _, err = corral("jobs", "delete", "job-1")
    assert code == 2
    assert "--yes" in err
    assert "job-1" in trainer.jobs

    assert corral("jobs", "delete", "job-1", "--yes")[:2] == (0, "job-1\n")
    assert trainer.jobs == {}


def test_models_are_listed_and_shown(corral: Corral) -> None:
    _, table, _ = corral("models", "list")
    _, out, _ = corral("models", "show", "job-1", "--json")

    assert [line.split()[0] for line in table.splitlines()[1:]] == [
        "gpt2",
        "ft:gpt2::job-1:ckpt-step-4",
    ]
    assert json.loads(out)["step"] == 4


def test_the_memory_in_use_stands_beside_the_models(
    corral: Corral, inference: FakeInference
) -> None:
    inference.models[0].is_loaded = True
    inference.models[0].loaded_bytes = 3 * 2**20
    inference.memory.models = 3 * 2**20

    _, table, said = corral("models", "list")

    assert table.splitlines()[1].split()[-4:] == ["-", "3.0", "MiB", "-"]
    assert said == "Memory: 3.0 MiB of models and 0 B of conversations, of 1.0 GiB.\n"


def test_version_names_both_sides(corral: Corral) -> None:
    _, out, _ = corral("version", "--json")

    assert json.loads(out)["server"] == "9.9.9"


def test_a_job_is_paused_and_goes_on(corral: Corral, trainer: FakeTrainer) -> None:
    trainer.add_job("job-1", "RUNNING")

    assert corral("jobs", "pause", "job-1")[:2] == (0, "job-1  PAUSED\n")
    code, out, _ = corral("jobs", "resume", "job-1", "--json")

    assert code == 0
    assert json.loads(out)["state"] == "QUEUED"


def test_an_uploaded_data_set_is_trained_on_by_the_beginning_of_its_id(
    corral: Corral, trainer: FakeTrainer
) -> None:
    dataset_id = "3fa92b1c" + "0" * 56
    trainer.datasets[dataset_id] = trainer_pb2.Dataset(id=dataset_id, filename="mine.jsonl")

    assert corral("train", "3fa92b1c")[0] == 0
    assert corral("train", "3fa92b1d")[0] == 3

    [request] = trainer.creations
    assert request.dataset_id == dataset_id
    assert trainer.chunk_sizes == []


def test_a_file_named_like_an_id_is_a_file(
    corral: Corral, trainer: FakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("3fa92b1c").write_text('{"instruction": "a", "output": "b"}\n')

    assert corral("train", "3fa92b1c")[0] == 0
    assert trainer.upload_name == "3fa92b1c"


def test_a_plan_is_made_for_the_gpu_that_is_named(
    corral: Corral, trainer: FakeTrainer, rows: Path
) -> None:
    code, _, _ = corral("plan", rows, "--gpu", "A100-80GB:2", "--epochs", "1")

    assert code == 0
    [request] = trainer.plans
    assert request.device == "A100-80GB"
    assert (request.spec.processes, request.spec.epochs) == (2, 1)
    assert not request.spec.HasField("gpu")
