"""Answers held to a JSON schema, by the tokens that may come next."""

from __future__ import annotations

import json

import pytest
from tests.tiny_models import tiny_gpt2

from corral.errors import InvalidRequestError
from corral.generation.answers import Finish, FinishReason, Piece
from corral.generation.generating import generate
from corral.generation.loading import LoadedModel, load_model
from corral.generation.scoring import prompt_likelihoods
from corral.sampling import SamplingOptions

pytestmark = pytest.mark.torch

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green", "blue"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(tiny_gpt2(tmp_path_factory.mktemp("tiny")), precision="fp32")


def answer(model: LoadedModel, **options: object) -> tuple[str, Finish]:
    given = {"max_tokens": 100, "loop_guard": False, **options}
    outputs = list(generate(model, [5, 6, 7], SamplingOptions.model_validate(given)))
    finish = outputs[-1]
    assert isinstance(finish, Finish)
    return "".join(one.text for one in outputs if isinstance(one, Piece)), finish


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1, "top_k": 0}, {"seed": 2}])
def test_an_untrained_model_writes_what_the_schema_says(
    model: LoadedModel, options: dict[str, object]
) -> None:
    text, finish = answer(model, json_schema=SCHEMA, **options)

    assert finish.reason is FinishReason.STOP
    found = json.loads(text)
    assert found["colour"] in ("red", "green", "blue")
    assert 0 <= found["count"] <= 9


def test_an_answer_that_is_cut_is_the_beginning_of_json(model: LoadedModel) -> None:
    text, finish = answer(model, json_schema=SCHEMA, max_tokens=3, seed=1)
    assert finish.reason is FinishReason.LENGTH
    assert text.startswith("{")


@pytest.mark.parametrize("schema", ["{", "[]", '{"type": "nothing"}'])
def test_what_is_no_schema_is_refused(model: LoadedModel, schema: str) -> None:
    with pytest.raises(InvalidRequestError, match="json_schema"):
        model.grammars.of_schema(schema)


def test_a_prompts_likelihoods_are_those_of_its_tokens(model: LoadedModel) -> None:
    ids = [5, 6, 7, 8]
    found = prompt_likelihoods(model, ids, 2)
    assert [one.token for one in found] == ids
    assert (found[0].logprob, found[0].top) == (0.0, ())
    assert [one.logprob for one in found[1:]] == pytest.approx(model.decoder.score(ids, 1).tolist())
    for one in found[1:]:
        (_, best), (_, second) = one.top
        assert best >= second
        assert best >= one.logprob
