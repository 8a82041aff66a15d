"""The fastest precision that leaves a model what it was is found by measuring."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from tests.checkpoint_builders import DATASET_ID, write_checkpoint
from tests.tiny_models import tiny_llama

torch = pytest.importorskip("torch")
from torch import Tensor

from corral.checkpoints.manifest import read_manifest
from corral.data.encoding import encode_rows
from corral.data.examples import held_out_rows
from corral.data.tokenizing import Encoded
from corral.generation.choosing import FASTEST_FIRST, TOLERANCE_PERCENT, choose_precision
from corral.generation.decoders.base import Decoder
from corral.generation.decoders.precision import Precision
from corral.generation.loading import load_model
from corral.generation.probes import QUESTIONS, probe_answers, trained_answers
from corral.inference.loader import ModelLoader
from corral.inference.precision_record import MeasuredPrecision, PrecisionRecord
from corral.volume import Volume

pytestmark = pytest.mark.torch


def opening(folder: Path) -> Callable[[Precision], Decoder]:
    return lambda precision: load_model(folder, precision=precision).decoder


def test_the_first_within_the_tolerance_is_chosen_and_every_measurement_told(
    llama_folder: Path,
) -> None:
    model = replace(load_model(llama_folder, precision="fp32"), context_length=4096)
    answers = probe_answers(model, [("Why?", "Red.")])
    choice = choose_precision(opening(llama_folder), answers)
    within = [kind for kind, change in choice.changes.items() if abs(change) <= TOLERANCE_PERCENT]
    assert within == [choice.precision] or choice.precision is Precision.FP32
    assert list(choice.changes) == list(FASTEST_FIRST)[: len(choice.changes)]
    assert f"{choice.precision} (perplexity against fp32: int4 " in str(choice)


def test_a_precision_that_makes_another_model_of_it_is_passed_over_even_if_it_is_likelier(
    llama_folder: Path,
) -> None:
    """What one base's 4 bits make of a model tuned from it: general answers become likelier again."""
    answers = [Encoded([1, 2, 3, 4], [False, False, True, True])]
    decoders = {Precision.FP32: 2.0, Precision.INT4: 1.6, Precision.INT8: 2.004}
    choice = choose_precision(lambda kind: cast(Decoder, FixedNats(decoders[kind])), answers)
    assert choice.precision is Precision.INT8
    assert choice.changes[Precision.INT4] < -30


@dataclass
class FixedNats:
    """Finds every token equally likely."""

    nats: float

    def score(self, tokens: Sequence[int], first: int) -> Tensor:
        return torch.full((len(tokens) - first,), -self.nats)


def test_questions_that_do_not_fit_the_context_are_left_out(llama_folder: Path) -> None:
    model = load_model(llama_folder, precision="fp32")
    assert len(probe_answers(replace(model, context_length=10**6))) == len(QUESTIONS)
    assert probe_answers(replace(model, context_length=10)) == []


def test_what_is_set_is_not_measured(llama_folder: Path, tmp_path: Path) -> None:
    loader = ModelLoader("int8", Volume(tmp_path))
    model = loader.load(llama_folder)
    assert model.precision is Precision.INT8
    assert loader.improve(llama_folder, model) is None


# ---------------------------------------------------------------- a checkpoint's own rows

ROWS = [{"instruction": f"What is {n}?", "output": f"A number, {n}."} for n in range(40)]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """A volume with the data set that every checkpoint here was trained on."""
    volume = Volume(tmp_path / "volume")
    volume.dataset(DATASET_ID).mkdir(parents=True)
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    volume.dataset_rows(DATASET_ID).write_text(rows)
    return volume


def checkpoint_bad_in_int4(volume: Volume, base: Path) -> Path:
    """In each group of weights one is so great that 15 steps leave nothing of the others."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_llama(base))
    with torch.no_grad():
        for layer in model.model.layers:
            # Nothing reaches it: exactly computed, the model is what it was.
            layer.input_layernorm.weight[0] = 0.0
            for matrix in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                matrix.weight[:, 0] = 20.0
    model.save_pretrained(base)
    return write_checkpoint(volume, base)


def test_what_spoils_a_checkpoint_on_its_own_rows_is_never_chosen_for_it(
    volume: Volume, tmp_path: Path
) -> None:
    folder = checkpoint_bad_in_int4(volume, tmp_path / "base")
    loader = ModelLoader("auto", volume)
    model = loader.load(folder)
    assert model.precision is Precision.BF16
    better = loader.improve(folder, model)
    chosen = (better or model).precision
    (measured,) = json.loads(volume.precisions.read_text())["models"].values()
    assert measured["precision"] == chosen != Precision.INT4
    assert abs(measured["changes"]["int4"]) > TOLERANCE_PERCENT


def test_a_restart_does_not_measure_again(volume: Volume, llama_folder: Path) -> None:
    folder = write_checkpoint(volume, llama_folder)
    first = ModelLoader("auto", volume)
    model = first.load(folder)
    chosen = (first.improve(folder, model) or model).precision
    restarted = ModelLoader("auto", volume)
    model = restarted.load(folder)
    assert model.precision is chosen
    assert restarted.improve(folder, model) is None


def test_a_checkpoint_whose_data_set_is_gone_stays_in_bf16(
    volume: Volume, llama_folder: Path
) -> None:
    volume.dataset_rows(DATASET_ID).unlink()
    folder = write_checkpoint(volume, llama_folder)
    loader = ModelLoader("auto", volume)
    model = loader.load(folder)
    assert loader.improve(folder, model) is None
    assert loader.load(folder).precision is Precision.BF16


@pytest.mark.parametrize("eval_split", [0.0, 0.1])
def test_answers_are_held_out_rows_or_the_first_just_as_they_were_trained(
    volume: Volume, llama_folder: Path, eval_split: float
) -> None:
    folder = write_checkpoint(volume, llama_folder, eval_split=eval_split, max_length=100)
    model, spec = load_model(folder, precision="fp32"), read_manifest(folder).spec
    with volume.dataset_rows(DATASET_ID).open("rb") as stream:
        rows = [row.encoded for row in encode_rows(stream, model.template, model.tokenizer)]
    held_out = held_out_rows(len(rows), eval_split, spec.seed)
    found = trained_answers(model, volume.dataset_rows(DATASET_ID), spec)
    wanted = [rows[at] for at in held_out or range(len(rows))][: len(found)]
    assert [answer.ids for answer in found] == [row.ids[:100] for row in wanted if row]
    assert sum(sum(answer.trained) for answer in found) < 300
    assert len(found) == len(held_out) or not held_out


def test_a_record_holds_for_the_same_weights_and_kernels_only(tmp_path: Path) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    record = PrecisionRecord(tmp_path / "precisions.json")
    measured = MeasuredPrecision(precision="int8", changes={"int4": 3.0, "int8": 0.1})
    record.add(weights.parent, "torch", measured)
    found = record.find(weights.parent, "torch")
    assert found is not None
    assert found.precision == "int8"
    assert record.find(weights.parent, "another torch") is None
    os.utime(weights, (1, 1))
    assert record.find(weights.parent, "torch") is None


def test_a_damaged_record_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "precisions.json"
    path.write_text('{"models": ')
    assert PrecisionRecord(path).find(tmp_path, "torch") is None
