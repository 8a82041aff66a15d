"""Answers of tiny models: the same tokens as transformers' own generate, and an end for each reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.errors import InvalidRequestError, PromptTooLongError
from corral.generation.answers import Finish, FinishReason, Piece
from corral.sampling import SamplingOptions

torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM

from corral.generation.generating import Generation, generate
from corral.generation.loading import LoadedModel, load_model
from corral.generation.prompts import raw_prompt

pytestmark = pytest.mark.torch

PROMPT = "Below is an instruction that describes a task. Name three colours, then 🙂."
GREEDY = SamplingOptions(temperature=0, max_tokens=40, loop_guard=False)


@pytest.fixture
def model(model_folder: Path) -> LoadedModel:
    return load_model(model_folder, precision="fp32")


def answer(
    model: LoadedModel, prompt_ids: list[int], options: SamplingOptions
) -> tuple[str, Finish]:
    *pieces, finish = generate(model, prompt_ids, options)
    assert isinstance(finish, Finish)
    assert all(isinstance(piece, Piece) and piece.text for piece in pieces)
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), finish


def reference(folder: Path, prompt_ids: list[int], tokens: int, **settings: Any) -> list[int]:
    """What transformers itself generates, greedily."""
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompt_ids])
    output = network.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
        **settings,
    )
    return list(output[0, len(prompt_ids) :].tolist())


def test_greedy_text_is_that_of_transformers_generate(
    model_folder: Path, model: LoadedModel
) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    expected = reference(model_folder, prompt_ids, GREEDY.max_tokens)
    text, finish = answer(model, prompt_ids, GREEDY)
    assert finish.completion_tokens == len(expected)
    assert text == model.tokenizer.decode(expected)
    # Or the comparison would prove little.
    assert len(set(expected)) > 5


def test_the_repetition_penalty_is_that_of_transformers(
    model_folder: Path, model: LoadedModel
) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    expected = reference(model_folder, prompt_ids, 40, repetition_penalty=1.4)
    options = GREEDY.model_copy(update={"repetition_penalty": 1.4})
    text, _ = answer(model, prompt_ids, options)
    assert text == model.tokenizer.decode(expected)
    assert text != answer(model, prompt_ids, GREEDY)[0]


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(model: LoadedModel) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    options = SamplingOptions(temperature=1.5, top_p=1, top_k=0, seed=3)
    first, again = answer(model, prompt_ids, options), answer(model, prompt_ids, options)
    assert first == again
    assert first != answer(model, prompt_ids, options.model_copy(update={"seed": 4}))


def test_the_end_token_ends_the_answer_and_is_not_shown(
    model_folder: Path, model: LoadedModel
) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    expected = reference(model_folder, prompt_ids, 40)
    end = expected[10]
    until = expected.index(end)
    model = replace(model, end_ids=frozenset({end}))
    text, finish = answer(model, prompt_ids, GREEDY)
    assert text == model.tokenizer.decode(expected[:until])
    assert finish == Finish(FinishReason.STOP, len(prompt_ids), until + 1)


def test_a_stop_string_ends_the_answer_before_it(model: LoadedModel) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    whole, _ = answer(model, prompt_ids, GREEDY)
    stop = whole[8:11]
    text, finish = answer(model, prompt_ids, GREEDY.model_copy(update={"stop": (stop,)}))
    assert text == whole[: whole.index(stop)]
    assert finish.reason is FinishReason.STOP
    assert finish.completion_tokens < GREEDY.max_tokens


def test_max_tokens_end_the_answer(model: LoadedModel) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    options = GREEDY.model_copy(update={"max_tokens": 5})
    assert answer(model, prompt_ids, options)[1] == Finish(FinishReason.LENGTH, len(prompt_ids), 5)


def test_the_end_of_the_context_ends_the_answer(model: LoadedModel) -> None:
    prompt_ids = (raw_prompt(model, PROMPT) * 10)[: model.context_length - 3]
    _, finish = answer(model, prompt_ids, GREEDY)
    assert finish == Finish(FinishReason.LENGTH, model.context_length - 3, 3)


def test_a_prompt_that_fills_the_context_is_refused_with_both_counts(model: LoadedModel) -> None:
    prompt_ids = (raw_prompt(model, PROMPT) * 10)[: model.context_length]
    with pytest.raises(PromptTooLongError, match=r"128 tokens; .* context holds 128") as refused:
        Generation(model, prompt_ids, GREEDY)
    assert "Shorten" in refused.value.hint


def test_an_empty_prompt_is_refused(model: LoadedModel) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        list(generate(model, [], GREEDY))


def test_generate_gives_pieces_and_then_one_finish(model: LoadedModel) -> None:
    outputs = list(generate(model, raw_prompt(model, PROMPT), GREEDY))
    assert [isinstance(output, Finish) for output in outputs].index(True) == len(outputs) - 1


def test_an_answer_that_only_repeats_itself_is_ended(model: LoadedModel) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    # Forced to one token, which makes the shortest loop there is.
    options = SamplingOptions(temperature=0, max_tokens=60, logit_bias={300: 100})
    _, finish = answer(model, prompt_ids, options)
    assert finish.reason is FinishReason.LOOP
    assert finish.completion_tokens == 48
    off = options.model_copy(update={"loop_guard": False})
    assert answer(model, prompt_ids, off)[1].reason is FinishReason.LENGTH


def test_likelihoods_of_every_token_are_reported_once(model: LoadedModel) -> None:
    prompt_ids = raw_prompt(model, PROMPT)
    options = GREEDY.model_copy(update={"logprobs": 2})
    *pieces, finish = generate(model, prompt_ids, options)
    assert isinstance(finish, Finish)
    found = [one for piece in pieces if isinstance(piece, Piece) for one in piece.likelihoods]
    assert len(found) == finish.completion_tokens
    for one in found:
        # Greedy: the likeliest is the one that was taken.
        assert one.top[0] == (one.token, one.logprob)
        assert len(one.top) == 2
    scores = model.decoder.score([*prompt_ids, *(one.token for one in found)], len(prompt_ids))
    assert [one.logprob for one in found] == pytest.approx(scores.tolist(), abs=1e-4)
