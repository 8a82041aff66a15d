"""Form fields from the spec: bounds, choices, types."""

from __future__ import annotations

import pytest

from corral.gateway.console import train
from corral.gateway.console.spec_form import Kind, kind_of, title
from corral.sampling import SamplingOptions
from corral.spec import TrainingSpec


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("epochs", Kind(int, least=1)),
        ("max_steps", Kind(int, least=1)),
        ("learning_rate", Kind(float, least=0, most=1)),
        ("packing", Kind(bool)),
        ("tuning", Kind(str, ("full", "lora"))),
        ("backend", Kind(str, ("local", "kubernetes", "modal"))),
        ("suffix", Kind(str)),
    ],
)
def test_a_field_knows_its_type_choices_and_bounds(name: str, kind: Kind) -> None:
    assert kind_of(TrainingSpec.model_fields[name]) == kind


def test_sampling_options_are_fields_too() -> None:
    assert kind_of(SamplingOptions.model_fields["temperature"]) == Kind(float, least=0, most=2)


def test_every_field_of_the_spec_is_in_the_form_once() -> None:
    placed = train.fields_in_order()
    assert sorted(placed) == sorted(TrainingSpec.model_fields)


def test_names_are_written_as_words() -> None:
    assert title("learning_rate") == "Learning rate"
    assert title("lora_rank") == "LoRA rank"
