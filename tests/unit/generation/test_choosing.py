"""The fastest precision that leaves a model what it was is found by measuring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
from corral.generation import choosing
from corral.generation.choosing import Choice, choose_precision
from corral.generation.decoders.precision import Precision
from corral.generation.loading import load_model
from corral.generation.probes import QUESTIONS, probe_answers
from corral.inference.loader import ModelLoader
from corral.volume import Volume

pytestmark = pytest.mark.torch


def test_the_first_within_the_tolerance_is_chosen_and_every_measurement_told(
    llama_folder: Path,
) -> None:
    model = replace(load_model(llama_folder, precision="fp32"), context_length=4096)
    answers = probe_answers(model, [("Why?", "Red.")])
    choice = choose_precision(llama_folder, answers)
    within = [kind for kind in choice.changes if choice.changes[kind] <= choosing.TOLERANCE_PERCENT]
    assert within == [choice.precision] or choice.precision is Precision.FP32
    assert list(choice.changes) == list(choosing.FASTEST_FIRST)[: len(choice.changes)]
    assert f"{choice.precision} (perplexity against fp32: int4 " in str(choice)


def test_questions_that_do_not_fit_the_context_are_left_out(llama_folder: Path) -> None:
    model = load_model(llama_folder, precision="fp32")
    assert len(probe_answers(replace(model, context_length=10**6))) == len(QUESTIONS)
    assert probe_answers(replace(model, context_length=10)) == []


def test_what_is_set_is_not_measured(llama_folder: Path, tmp_path: Path) -> None:
    loader = ModelLoader("int8", Volume(tmp_path))
    model = loader.load(llama_folder)
    assert model.precision is Precision.INT8
    assert loader.improve(llama_folder, model) is None


def test_a_choice_is_kept_for_the_next_load(llama_folder: Path, tmp_path: Path) -> None:
    loader = ModelLoader("auto", Volume(tmp_path))
    loader._choices[llama_folder] = Choice(Precision.INT8, {})
    model = loader.load(llama_folder)
    assert model.precision is Precision.INT8
    assert loader.improve(llama_folder, model) is None
