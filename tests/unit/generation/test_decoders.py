"""Every family's decoder computes what transformers computes, alone and among others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import tiny_models

from corral.errors import ModelUnsupportedError

torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM

from corral.generation.decoders.base import Decoder
from corral.generation.decoders.opening import open_decoder
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.torch_decoder import TorchDecoder
from corral.generation.decoders.transformers_decoder import TransformersDecoder

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
# Every family, and every choice within one that the decoder knows.
FAMILIES: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "gpt2": (tiny_models.tiny_gpt2, {}),
    "gpt2-relu": (tiny_models.tiny_gpt2, {"activation_function": "relu", "n_inner": 48}),
    "llama": (tiny_models.tiny_llama, {}),
    "llama-tied": (tiny_models.tiny_llama, {"tie_word_embeddings": True}),
    "llama-biases": (tiny_models.tiny_llama, {"attention_bias": True, "mlp_bias": True}),
    "llama-3": (tiny_models.tiny_llama, {"rope_parameters": LLAMA3_ROPE}),
    "mistral": (tiny_models.tiny_mistral, {}),
    "mistral-no-window": (tiny_models.tiny_mistral, {"sliding_window": None}),
    "qwen2": (tiny_models.tiny_qwen2, {}),
    "qwen2-windows": (
        tiny_models.tiny_qwen2,
        {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    ),
    "qwen3": (tiny_models.tiny_qwen3, {}),
    "gemma3": (tiny_models.tiny_gemma3, {}),
}
TOKENS = [(7 * at * at + 3 * at + 11) % 380 for at in range(70)]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            make, config = FAMILIES[name]
            make(root / name, **config)
        return root / name

    return folder


def reference(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def all_logits(network: Any, tokens: list[int]) -> Any:
    with torch.inference_mode():
        return network(torch.tensor([tokens])).logits[0]


def greedy(decoder: Decoder, prompt: list[int], count: int) -> list[int]:
    cache = decoder.new_cache()
    logits = decoder.prefill(prompt, cache)
    found = [int(logits.argmax())]
    while len(found) < count:
        found.append(int(decoder.decode(found[-1:], [cache])[0].argmax()))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_writes_the_tokens_that_transformers_writes(
    folders: Callable[[str], Path], name: str
) -> None:
    decoder = open_decoder(folders(name), Precision.FP32, CPU)
    assert isinstance(decoder, TorchDecoder)
    prompt = TOKENS[:40]
    expected = reference(folders(name)).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=30,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
    )
    assert greedy(decoder, prompt, 30) == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers_however_the_prompt_is_parted(
    folders: Callable[[str], Path], name: str
) -> None:
    decoder = open_decoder(folders(name), Precision.FP32, CPU)
    expected = all_logits(reference(folders(name)), TOKENS)
    cache = decoder.new_cache()
    for begin, end in ((0, 1), (1, 30), (30, 61)):
        found = decoder.prefill(TOKENS[begin:end], cache)
        torch.testing.assert_close(found, expected[end - 1], atol=2e-5, rtol=1e-4)
    for at in range(61, 70):
        found = decoder.decode([TOKENS[at]], [cache])[0]
        torch.testing.assert_close(found, expected[at], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_the_log_likelihoods_of_transformers(
    folders: Callable[[str], Path], name: str
) -> None:
    decoder = open_decoder(folders(name), Precision.FP32, CPU)
    expected = torch.log_softmax(all_logits(reference(folders(name)), TOKENS), dim=-1)
    expected = expected[4:-1].gather(1, torch.tensor(TOKENS[5:])[:, None])[:, 0]
    torch.testing.assert_close(decoder.score(TOKENS, 5), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("name", ["gpt2", "qwen2", "gemma3"])
def test_a_row_of_a_batch_is_bit_for_bit_what_it_is_alone(
    folders: Callable[[str], Path], name: str, precision: Precision
) -> None:
    decoder = open_decoder(folders(name), precision, CPU)
    prompts = [TOKENS[:3], TOKENS[5:50], TOKENS[20:31], TOKENS[:64], TOKENS[1:2]]

    def caches() -> list[Any]:
        made = [decoder.new_cache() for _ in prompts]
        for prompt, cache in zip(prompts, made, strict=True):
            decoder.prefill(prompt, cache)
        return made

    alone = [decoder.decode([9], [cache])[0] for cache in caches()]
    together = decoder.decode([9] * len(prompts), caches())
    for one, row in zip(alone, together, strict=True):
        assert torch.equal(one, row)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(Precision.BF16, 0.03), (Precision.INT8, 0.05), (Precision.INT4, 0.5)],
)
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_fewer_bits_stay_near_the_float32_logits(
    folders: Callable[[str], Path], name: str, precision: Precision, tolerance: float
) -> None:
    exact = open_decoder(folders(name), Precision.FP32, CPU).score(TOKENS, 1)
    rounded = open_decoder(folders(name), precision, CPU).score(TOKENS, 1)
    assert float((exact - rounded).abs().mean()) < tolerance


def test_a_fork_and_its_origin_go_on_apart(folders: Callable[[str], Path]) -> None:
    decoder = open_decoder(folders("llama"), Precision.FP32, CPU)
    cache = decoder.new_cache()
    decoder.prefill(TOKENS[:30], cache)
    fork = cache.fork(20)
    decoder.prefill([1, 2, 3], fork)
    fresh = decoder.new_cache()
    decoder.prefill(TOKENS[:30], fresh)
    assert torch.equal(decoder.decode([5], [cache]), decoder.decode([5], [fresh]))
    assert (fork.length, cache.length) == (23, 31)


def test_what_a_decoder_has_no_place_for_is_computed_by_transformers(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0}
    yarn["original_max_position_embeddings"] = 32
    folder = tiny_models.tiny_llama(tmp_path / "yarn", rope_parameters=yarn)
    decoder = open_decoder(folder, Precision.INT4, CPU)
    assert isinstance(decoder, TransformersDecoder)
    assert "transformers" in decoder.description
    exact = open_decoder(folder, Precision.FP32, CPU)
    expected = all_logits(reference(folder), TOKENS)
    torch.testing.assert_close(greedy(exact, TOKENS, 1), [int(expected[-1].argmax())])
    likelihoods = torch.log_softmax(expected, dim=-1)[0].gather(0, torch.tensor(TOKENS[1:2]))
    torch.testing.assert_close(exact.score(TOKENS[:2], 1), likelihoods)


def test_a_tensor_of_another_shape_is_refused_by_name(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("llama"), tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelUnsupportedError, match=r"gate_proj\.weight has shape \[64, 32\]"):
        open_decoder(folder, Precision.FP32, CPU)
