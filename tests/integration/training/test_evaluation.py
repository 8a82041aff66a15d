"""Evaluations of real runs: the same on any number of ranks, without a trace in the weights, and able
to end a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from tests.runs import read_events, train, write_run
from tests.tiny_models import tiny_gpt2

from corral.checkpoints.folders import complete_checkpoints
from corral.checkpoints.manifest import read_manifest
from corral.errors import SpecError
from corral.run import CheckpointWritten, EvaluationDone, RunEvent, StepDone, TrainingRun
from corral.training.loop import RunEnd, run
from corral.training.parallel import Ranks
from corral.volume import Volume

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "data")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    # Its dropout is on in training: an evaluation that left a trace in the random state would show.
    return tiny_gpt2(tmp_path / "gpt2")


def train_here(
    run_file: Path, volume: Volume, stop_requested: Callable[[], bool] = lambda: False
) -> tuple[RunEnd, list[RunEvent]]:
    """A run in this process: seconds faster than torchrun's."""
    end = run(TrainingRun.read(run_file), volume, ALONE, stop_requested)
    return end, read_events(run_file)


def evaluations(events: list[RunEvent]) -> list[EvaluationDone]:
    return [event for event in events if isinstance(event, EvaluationDone)]


def weights(volume: Volume, job_id: str) -> bytes:
    folder = complete_checkpoints(volume.checkpoints(job_id))[-1]
    return (folder / "model.safetensors").read_bytes()


def test_a_run_with_evaluations_ends_with_the_weights_of_one_without(
    volume: Volume, gpt2: Path
) -> None:
    _, events = train_here(
        write_run(volume, gpt2, job_id="with", eval_every=1, eval_max_tokens=8), volume
    )
    _, none = train_here(write_run(volume, gpt2, job_id="without", eval_prompts=0), volume)
    assert [event.step for event in evaluations(events)] == [1, 2, 3, 4, 5, 6]
    assert [event.samples for event in evaluations(none)] == [()]
    assert weights(volume, "with") == weights(volume, "without")


def test_an_evaluation_carries_figures_answers_and_its_cost(volume: Volume, gpt2: Path) -> None:
    _, events = train_here(
        write_run(volume, gpt2, eval_split=0.3, eval_prompts=2, eval_max_tokens=5), volume
    )
    (evaluated,) = evaluations(events)
    assert evaluated.eval_loss is not None
    assert evaluated.perplexity == pytest.approx(2.718281828459045**evaluated.eval_loss)
    assert len(evaluated.samples) == 2
    assert all(sample.prompt.startswith("Say the word number") for sample in evaluated.samples)
    assert all(sample.stopped or sample.tokens == 5 for sample in evaluated.samples)
    assert evaluated.answer_tokens == sum(sample.tokens for sample in evaluated.samples) / 2
    assert evaluated.evaluation_seconds > 0
    assert evaluated.is_best
    last = [event for event in events if isinstance(event, StepDone)][-1]
    assert (last.eval_loss, last.stop_rate) == (evaluated.eval_loss, evaluated.stop_rate)
    metrics = read_manifest(complete_checkpoints(volume.checkpoints("job-1"))[-1]).metrics
    assert (metrics.eval_loss, metrics.stop_rate) == (evaluated.eval_loss, evaluated.stop_rate)


def test_two_ranks_evaluate_as_one(volume: Volume, gpt2: Path) -> None:
    spec = {"eval_split": 0.3, "checkpoint_every": 3, "eval_max_tokens": 12}
    _, one = train_here(write_run(volume, gpt2, job_id="one", **spec), volume)
    two = train(
        write_run(volume, gpt2, job_id="two", gradient_accumulation_steps=1, processes=2, **spec),
        2,
    )
    assert len(evaluations(one)) == 2
    for alone, shared in zip(evaluations(one), evaluations(two), strict=True):
        assert shared.samples == alone.samples
        assert shared.eval_loss == pytest.approx(alone.eval_loss, rel=1e-4)
        assert shared.stop_rate == alone.stop_rate
        assert shared.repetition_rate == pytest.approx(alone.repetition_rate)


# With this learning rate no evaluation is better than the first.
STUCK = {
    "learning_rate": 1e-12,
    "eval_split": 0.3,
    "eval_every": 1,
    "eval_prompts": 1,
    "eval_max_tokens": 2,
    "early_stopping": "eval_loss",
    "early_stopping_patience": 2,
    "epochs": 5,
}


def test_a_run_that_no_longer_improves_ends_well_with_a_final_checkpoint(
    volume: Volume, gpt2: Path
) -> None:
    end, events = train_here(write_run(volume, gpt2, **STUCK), volume)
    assert end.finished
    assert "eval loss of step 1" in end.reason
    assert [event.is_best for event in evaluations(events)] == [True, False, False]
    (written,) = [event for event in events if isinstance(event, CheckpointWritten)]
    assert written.step == 3
    assert read_manifest(volume.checkpoints("job-1") / written.folder).is_final


def test_a_resumed_run_remembers_how_long_it_has_not_improved(volume: Volume, gpt2: Path) -> None:
    asked = iter([False, True])
    end, events = train_here(write_run(volume, gpt2, **STUCK), volume, lambda: next(asked))
    assert (end.finished, end.reason) == (False, "")
    (saved,) = [event for event in events if isinstance(event, CheckpointWritten)]
    assert saved.step == 2
    resumed = write_run(volume, gpt2, attempt=2, resume_from=saved.folder, **STUCK)
    end, events = train_here(resumed, volume)
    assert end.finished
    assert [event.step for event in evaluations(events)] == [3]


def test_early_stopping_by_answers_is_refused_where_no_question_leaves_room_for_one(
    volume: Volume, gpt2: Path
) -> None:
    run_file = write_run(volume, gpt2, early_stopping="stop_rate", eval_max_tokens=4000)
    with pytest.raises(SpecError, match="eval_max_tokens"):
        train_here(run_file, volume)
