"""Tiny random models, made in the test: real Hugging Face folders of about 100 kB.

The tokenizer is a byte-level BPE that is trained here, so any text can be encoded. Two calls with the
same arguments write the same files. torch and transformers are imported when a model is made, so that
a test module may import this without them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

END_TOKEN = "<|endoftext|>"
VOCABULARY = 384
CONTEXT = 128

_TEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.",
    "### Instruction: Name three colours. ### Input: none ### Response: Red, green and blue.",
    "Who made you? I am a small model that was made for a test, and I answer in a few words.",
    "The quick brown fox jumps over the lazy dog, and then it goes home to sleep until tomorrow.",
)


def tiny_gpt2(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A GPT-2 with two layers in `folder`; `config` overrides fields of GPT2Config."""
    from transformers import GPT2Config, GPT2LMHeadModel

    end = _write_tokenizer(folder)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
    fields = {"vocab_size": VOCABULARY, "bos_token_id": end, "eos_token_id": end} | shape | config
    return _write_model(folder, GPT2LMHeadModel, GPT2Config(**fields), seed)


def tiny_llama(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A Llama with two layers and grouped-query attention in `folder`; `config` overrides fields of
    LlamaConfig.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = _llama_fields(folder) | config
    return _write_model(folder, LlamaForCausalLM, LlamaConfig(**fields), seed)


def tiny_mistral(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Like `tiny_llama`, a Mistral that sees 24 tokens back."""
    from transformers import MistralConfig, MistralForCausalLM

    fields = _llama_fields(folder) | {"sliding_window": 24} | config
    return _write_model(folder, MistralForCausalLM, MistralConfig(**fields), seed)


def tiny_qwen2(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Like `tiny_llama`, a Qwen 2."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    fields = _llama_fields(folder) | config
    return _write_model(folder, Qwen2ForCausalLM, Qwen2Config(**fields), seed)


def tiny_qwen3(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Like `tiny_llama`, a Qwen 3 whose heads are wider than its hidden size divided by them."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    fields = _llama_fields(folder) | {"head_dim": 16, "tie_word_embeddings": True} | config
    return _write_model(folder, Qwen3ForCausalLM, Qwen3Config(**fields), seed)


def tiny_gemma3(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Like `tiny_llama`, a Gemma 3 whose first layer sees 24 tokens back and whose second sees all."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    own = {
        "head_dim": 16,
        "query_pre_attn_scalar": 20,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 30.0,
    }
    fields = _llama_fields(folder) | own | config
    return _write_model(folder, Gemma3ForCausalLM, Gemma3TextConfig(**fields), seed)


def _llama_fields(folder: Path) -> dict[str, Any]:
    """Two layers with grouped-query attention; writes the tokenizer whose end token they name."""
    end = _write_tokenizer(folder)
    return {
        "vocab_size": VOCABULARY,
        "bos_token_id": end,
        "eos_token_id": end,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }


def _write_model(folder: Path, model_class: Any, config: Any, seed: int) -> Path:
    import torch

    # Weights ten times larger than the usual start: an untrained model with the usual ones puts out
    # one token for ever, and tests of generation would prove little.
    config.initializer_range = 0.2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config).to(torch.float32)
    model.save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the id of the end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    card = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_TOKEN,
        "eos_token": END_TOKEN,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(card, indent=2))
    return int(tokenizer.token_to_id(END_TOKEN))
