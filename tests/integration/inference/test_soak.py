"""A thousand requests to three models, a third of which are cancelled or wrong."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_qwen3

from corral.errors import CorralError
from corral.inference.engine import Engine
from corral.inference.requests import Answered, Ended
from corral.sampling import SamplingOptions

pytestmark = pytest.mark.torch

REQUESTS = 1000
SECONDS = 120


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("soak")
    makers = {"gpt2": tiny_gpt2, "llama": tiny_llama, "qwen3": tiny_qwen3}
    return [make(root / name, seed=1) for name, make in makers.items()]


def some_prompt(numbers: random.Random) -> list[int]:
    """Mostly sound, often with a beginning that others share."""
    kind = numbers.random()
    if kind < 0.05:
        return []
    if kind < 0.1:
        return [1] * 500
    if kind < 0.15:
        return [3, 10**6]
    return [*range(5, 45), *(numbers.randrange(300) for _ in range(numbers.randint(1, 60)))]


async def one_request(engine: Engine, models: list[Any], numbers: random.Random) -> str:
    """Ask, and perhaps go away; how it ended for the one who asked."""
    leaves_after = numbers.randint(0, 4) if numbers.random() < 0.2 else 10**6
    options = SamplingOptions(max_tokens=numbers.randint(1, 12), seed=numbers.randrange(99))
    answer = engine.submit(numbers.choice(models), some_prompt(numbers), options)
    try:
        async with aclosing(answer) as outputs:
            seen = 0
            async for output in outputs:
                if isinstance(output, Answered):
                    return output.finish.reason.value
                if seen >= leaves_after:
                    return "left"
                seen += 1
    except CorralError as error:
        return error.code.lower()
    except IndexError:
        return "internal"
    raise AssertionError("an answer ends in its finish")


async def test_each_request_ends_once_and_memory_returns(folders: list[Path]) -> None:
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import load_model

    models = [load_model(folder, precision="int4") for folder in folders]
    ended: list[Ended] = []
    engine = Engine(
        Generation,
        lambda model: Batch(model.decoder, kept=4),
        slots=6,
        waiting=20,
        on_end=ended.append,
    )
    numbers = random.Random(7)
    places = asyncio.Semaphore(24)

    async def asking() -> str:
        async with places:
            return await one_request(engine, models, numbers)

    async with asyncio.timeout(SECONDS):
        seen = Counter(await asyncio.gather(*(asking() for _ in range(REQUESTS))))
        assert engine.waiting == 0
        assert len(ended) == sum(seen.values()) == REQUESTS
        outcomes = Counter(one.outcome for one in ended)
        assert outcomes["cancelled"] == seen["left"] > 50
        assert outcomes["length"] == seen["length"] > 400
        for refused in ("invalid_request", "prompt_too_long", "internal"):
            assert outcomes[refused] == seen[refused] > 20
        # Nothing is left but the caches that wait for a next turn, and these go with their models.
        while engine.writing or engine.reserved_bytes:  # noqa: ASYNC110 - the thread has no Event of ours
            await asyncio.sleep(0)
        watched = [weakref.ref(model.decoder) for model in models]
        models.clear()
        while any(reference() is not None for reference in watched):
            gc.collect()
            await asyncio.sleep(0)
    await asyncio.to_thread(engine.close)
