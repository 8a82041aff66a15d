"""Answers join and leave between steps, reuse what earlier ones read, and never change each other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.tiny_models import tiny_qwen3

from corral.generation.answers import Finish, FinishReason, Piece
from corral.sampling import SamplingOptions

torch = pytest.importorskip("torch")
from corral.generation.batch import Batch, Outputs
from corral.generation.generating import Generation, generate
from corral.generation.loading import LoadedModel, load_model
from corral.generation.prefixes import CHUNK

pytestmark = pytest.mark.torch

GREEDY = SamplingOptions(temperature=0, max_tokens=12, loop_guard=False)
FREE = SamplingOptions(temperature=1, max_tokens=6, loop_guard=False)
PROMPT = [(5 * at * at + at) % 380 for at in range(40)]
LONG = [(3 * at * at + 7) % 380 for at in range(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3(tmp_path_factory.mktemp("qwen3"), max_position_embeddings=1024)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load_model(folder, precision="fp32")


def text_of(outputs: Sequence[object]) -> str:
    return "".join(output.text for output in outputs if isinstance(output, Piece))


def written(outputs: Outputs) -> str:
    assert not isinstance(outputs, Exception)
    return text_of(outputs)


def run(batch: Batch, *generations: Generation) -> list[str]:
    """Write until all of these are finished; their texts."""
    texts = dict.fromkeys(generations, "")
    while not all(generation.finished for generation in generations):
        for generation, outputs in batch.step():
            if generation in texts:
                texts[generation] += written(outputs)
    return list(texts.values())


def started(
    batch: Batch, model: LoadedModel, prompt: list[int], options: SamplingOptions
) -> Generation:
    generation = Generation(model, prompt, options)
    batch.join(generation)
    return generation


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_a_seeded_answer_is_the_same_alone_and_among_others(folder: Path, precision: str) -> None:
    model = load_model(folder, precision=precision)
    options = SamplingOptions(temperature=1.3, top_p=0.95, seed=7, max_tokens=40, loop_guard=False)
    alone = text_of(list(generate(model, PROMPT, options)))
    batch = Batch(model.decoder, kept=4)
    numbers = random.Random(1)
    # Others come and go at every step, before it and behind it.
    started(batch, model, LONG[:200], FREE)
    seeded = started(batch, model, PROMPT, options)
    text = ""
    while not seeded.finished:
        if numbers.random() < 0.5:
            started(batch, model, LONG[: numbers.randint(1, 90)], FREE)
        text += "".join(written(outputs) for one, outputs in batch.step() if one is seeded)
    assert text == alone


def test_a_reproducible_answer_is_the_same_again_though_its_prompt_is_known(
    model: LoadedModel,
) -> None:
    batch = Batch(model.decoder, kept=4)
    options = SamplingOptions(temperature=1.3, seed=7, max_tokens=30, loop_guard=False)
    prompt = LONG[: 3 * CHUNK + 5]
    first, again = (started(batch, model, prompt, options) for _ in range(2))
    texts = run(batch, first, again)
    third = started(batch, model, prompt, options)
    assert [*texts, *run(batch, third)] == [text_of(list(generate(model, prompt, options)))] * 3
    assert third.cached_tokens == 3 * CHUNK


def test_the_next_turn_reads_only_what_is_new(model: LoadedModel) -> None:
    batch = Batch(model.decoder, kept=2)
    first = started(batch, model, PROMPT, FREE)
    run(batch, first)
    # The last token was drawn, but nothing has been computed from it.
    known = len(first.tokens) - 1
    second = started(batch, model, [*first.tokens, 1, 2, 3], FREE)
    run(batch, second)
    assert second.cached_tokens == known


def test_a_common_beginning_is_copied_while_its_owner_still_writes(model: LoadedModel) -> None:
    batch = Batch(model.decoder)
    first = started(batch, model, [*PROMPT, 1, 2], FREE)
    batch.step()
    second = started(batch, model, [*PROMPT, 3, 4, 5], FREE)
    assert second.cached_tokens == len(PROMPT)
    other = started(batch, model, LONG[:30], FREE)
    assert other.cached_tokens == 0
    run(batch, first, second, other)


def test_what_is_reused_gives_the_answer_that_reading_it_gives(model: LoadedModel) -> None:
    batch = Batch(model.decoder, kept=2)
    greedy = Generation(model, PROMPT, GREEDY)
    batch.join(greedy)
    run(batch, greedy)
    turn = [*greedy.tokens, 9, 8, 7]
    # Not reproducible to the bit, and so from the cache; the likeliest token still is the same.
    likeliest = SamplingOptions(temperature=1, top_p=1e-9, max_tokens=12, loop_guard=False)
    second = started(batch, model, turn, likeliest)
    assert second.cached_tokens > len(PROMPT)
    assert run(batch, second) == [text_of(list(generate(model, turn, GREEDY)))]


def test_a_long_prompt_does_not_stall_others(model: LoadedModel) -> None:
    batch = Batch(model.decoder)
    writing = started(batch, model, PROMPT, FREE.model_copy(update={"max_tokens": 40}))
    batch.step()
    reading = started(batch, model, LONG, FREE)
    steps = 0
    while reading.completion_tokens == 0:
        before = writing.completion_tokens
        batch.step()
        steps += 1
        assert writing.completion_tokens == before + 1
    assert steps == -(-len(LONG) // CHUNK)


def test_short_prompts_do_not_wait_for_a_long_one(model: LoadedModel) -> None:
    batch = Batch(model.decoder)
    long = started(batch, model, LONG, FREE)
    short = started(batch, model, PROMPT, FREE)
    run(batch, short)
    assert long.completion_tokens == 0
    run(batch, long)


def test_an_answer_that_leaves_frees_its_place_at_once(model: LoadedModel) -> None:
    batch = Batch(model.decoder)
    leaving, staying = (started(batch, model, PROMPT, GREEDY) for _ in range(2))
    batch.step()
    batch.step()
    batch.leave(leaving)
    assert len(batch) == 1
    assert batch.cache_bytes == batch.bytes_for(staying)
    run(batch, staying)
    assert len(batch) == 0


def test_a_token_that_the_model_does_not_have_is_that_answers_error_alone(
    model: LoadedModel,
) -> None:
    batch = Batch(model.decoder)
    wrong = started(batch, model, [10**6], GREEDY)
    right = started(batch, model, PROMPT, GREEDY)
    ((failed, error),) = batch.step()
    assert failed is wrong
    assert isinstance(error, IndexError)
    assert run(batch, right) == [text_of(list(generate(model, PROMPT, GREEDY)))]


def test_no_more_caches_are_kept_than_may_be(model: LoadedModel) -> None:
    batch = Batch(model.decoder, kept=2)
    for at in range(4):
        run(batch, started(batch, model, LONG[at * 40 : at * 40 + 30], FREE))
    one = batch.bytes_for(Generation(model, LONG[:30], FREE))
    assert batch.cache_bytes == 2 * one
    assert batch.drop_oldest()
    assert batch.drop_oldest()
    assert not batch.drop_oldest()
    assert batch.cache_bytes == 0


def test_the_end_of_an_answer_tells_what_was_cached(model: LoadedModel) -> None:
    batch = Batch(model.decoder, kept=2)
    run(batch, started(batch, model, PROMPT, FREE))
    second = started(batch, model, PROMPT, FREE)
    finish = None
    while not second.finished:
        for _, outputs in batch.step():
            assert not isinstance(outputs, Exception)
            finish = outputs[-1]
    assert isinstance(finish, Finish)
    assert finish.reason is FinishReason.LENGTH
    assert finish.cached_tokens == len(PROMPT) - 1
