"""What Corral needs of the `tokenizers` package: reading a tokenizer.json, and encoders out of it that
keep special tokens and prefix spaces where they belong.

Knows nothing of segments, templates or which token means what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from corral.data.model_files import TOKENIZER_FILE, read_model_texts
from corral.errors import ModelUnsupportedError

_STAGES = ("normalizer", "pre_tokenizer")


def make_special(engine: Tokenizer, tokens: Iterable[str]) -> None:
    """Make each token a special one, and add it where the vocabulary lacks it."""
    known = {t.content for t in engine.get_added_tokens_decoder().values() if t.special}
    missing = [token for token in dict.fromkeys(tokens) if token not in known]
    engine.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in missing])


def read_engine(folder: Path) -> Tokenizer:
    """A folder's tokenizer.json. Raises ModelUnsupportedError where it is missing or broken."""
    path = folder / TOKENIZER_FILE
    try:
        return Tokenizer.from_file(str(path))
    # The package raises plain Exception for whatever it does not like.
    except Exception as error:
        if not path.is_file():
            read_model_texts(folder)  # says what is missing and what to do
        raise ModelUnsupportedError(f"{path} can't be read: {error}.") from error


def encoders_of(engine: Tokenizer) -> dict[tuple[bool, bool], Tokenizer]:
    """Encoders by whether a text may name special tokens, and whether it is a conversation's first.

    SentencePiece's kind puts a space before the beginning of a text. Pieces that follow another are
    no beginning: with that space, an answer would start with one that nobody wrote.
    """
    whole = engine.to_str()
    content = json.loads(whole)
    later = content | {stage: _without_prefix_space(content.get(stage)) for stage in _STAGES}
    same = all(later[stage] == content.get(stage) for stage in _STAGES)
    encoders: dict[tuple[bool, bool], Tokenizer] = {}
    for special in (False, True):
        first = engine if special else Tokenizer.from_str(whole)
        following = first if same else Tokenizer.from_str(json.dumps(later))
        for encoder in (first, following):
            # Characters only, whatever special tokens they spell. Set once: threads share these.
            encoder.encode_special_tokens = not special
        encoders[special, True], encoders[special, False] = first, following
    return encoders


def _without_prefix_space(stage: Any) -> Any:
    if not isinstance(stage, dict):
        return stage
    for children in ("normalizers", "pretokenizers"):
        if children in stage:
            kept = [_without_prefix_space(child) for child in stage[children]]
            return stage | {children: [child for child in kept if child is not None]}
    match stage.get("type"):
        case "Prepend":
            return None
        case "Metaspace":
            return stage | {"prepend_scheme": "never"}
        case "ByteLevel":
            return stage | {"add_prefix_space": False}
    return stage


def prefix_ids_of(engine: Tokenizer) -> list[int]:
    """What the tokenizer itself puts before any text: a beginning-of-text token, or nothing."""
    bare = engine.encode("a", add_special_tokens=False).ids
    whole = engine.encode("a", add_special_tokens=True).ids
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return whole[: next(starts, 0)]
