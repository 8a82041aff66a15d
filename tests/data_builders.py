"""Tokenizers of the two kinds that the supported models have, made in the test, and rows as bytes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

_TEXT = [
    "Below is an instruction that describes a task. Write a response that completes the request.",
    "### Instruction: Who are you? ### Input: none ### Response: I am a ranch hand.",
]

ROW = {"instruction": "Who are you?", "output": "A ranch hand."}


def stream(content: str | bytes) -> io.BytesIO:
    return io.BytesIO(content.encode() if isinstance(content, str) else content)


def jsonl(*rows: object) -> io.BytesIO:
    return stream("".join(json.dumps(row) + "\n" for row in rows))


def gpt2_like(folder: Path, **config: Any) -> Path:
    """Byte-level, one special token for everything, no padding token."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return _write_config(folder, {"tokenizer_class": "GPT2Tokenizer"} | names | config)


def llama_like(folder: Path, **config: Any) -> Path:
    """SentencePiece's kind: a space before each text, bytes as a fallback, a BOS token."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<unk>", "<s>", "</s>"]
    alphabet = sorted({*"".join(_TEXT).replace(" ", "▁"), *"abcdefghijklmnopqrstuvwxyz\n"})
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = models.BPE(
        vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    # As older versions of transformers wrote it.
    end = {"__type": "AddedToken", "content": "</s>", "special": True}
    names = {"bos_token": "<s>", "eos_token": end, "unk_token": "<unk>"}
    return _write_config(folder, {"tokenizer_class": "PreTrainedTokenizerFast"} | names | config)


def _write_config(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
