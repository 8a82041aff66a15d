"""A byte-level BPE vocabulary out of tokenizer.json, as GGUF wants it.

llama.cpp splits text by rules of its own, each with a name; which one a tokenizer.json asks for is
found out from its pre-tokenizer, and one that is not known is refused, since a wrong one would give
other tokens without a word. Knows nothing of weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from corral.data.model_files import TOKENIZER_FILE
from corral.errors import ModelUnsupportedError


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by their ids, with their kinds; merges as "left right"; the name of the splitting."""

    tokens: tuple[str, ...]
    kinds: tuple[TokenType, ...]
    merges: tuple[str, ...]
    splitting: str


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a folder's tokenizer.json, filled up to the `size` rows of the embedding.

    Raises ModelUnsupportedError for another kind of tokenizer.
    """
    path = folder / TOKENIZER_FILE
    try:
        content = json.loads(path.read_bytes())
        model = content["model"]
        if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
            raise _unsupported(path, "is not a byte-level BPE vocabulary")
        splitting = _splitting(content.get("pre_tokenizer"))
        if splitting is None:
            raise _unsupported(path, "splits text in a way that llama.cpp has no name for here")
        by_id = {number: token for token, number in model["vocab"].items()}
        kinds = dict.fromkeys(by_id, TokenType.NORMAL)
        for added in content.get("added_tokens", []):
            by_id[added["id"]] = added["content"]
            special = added.get("special")
            kinds[added["id"]] = TokenType.CONTROL if special else TokenType.USER_DEFINED
        numbers = range(max(size, max(by_id) + 1))
        return Vocabulary(
            # Rows of the embedding that no token has: they need names that differ.
            tokens=tuple(by_id.get(number, f"[PAD{number}]") for number in numbers),
            kinds=tuple(kinds.get(number, TokenType.UNUSED) for number in numbers),
            merges=tuple(m if isinstance(m, str) else " ".join(m) for m in model["merges"]),
            splitting=splitting,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unsupported(path, f"can't be read: {error}") from error


# Telling parts of the patterns that tokenizer.json files split by.
_PATTERNS = {
    # Llama 3: digits in groups of up to three.
    r"\p{N}{1,3}": "llama-bpe",
    # Qwen 2 and 3: each digit on its own, within one pattern.
    r"|\p{N}|": "qwen2",
}


def _splitting(pre_tokenizer: Any) -> str | None:
    """llama.cpp's name for what the pre-tokenizer does."""
    if not isinstance(pre_tokenizer, dict):
        return None
    parts = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
    kinds = [part.get("type") for part in parts]
    if parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return None
    splits_by_bytes = parts[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and splits_by_bytes:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and splits_by_bytes:
        return "smollm" if parts[0].get("individual_digits") else None
    if kinds == ["Split", "ByteLevel"] and not splits_by_bytes:
        pattern = parts[0].get("pattern", {}).get("Regex", "")
        return next((name for part, name in _PATTERNS.items() if part in pattern), None)
    return None


def _unsupported(path: Path, what: str) -> ModelUnsupportedError:
    return ModelUnsupportedError(
        f"{path} {what}, so no GGUF file can be written.", "Export the model with --to hf."
    )
