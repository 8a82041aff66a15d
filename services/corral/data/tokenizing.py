"""Encodes pieces of rendered text with a model's tokenizer.json, and fits that tokenizer to training.

Each piece is encoded on its own, so that the boundary between prompt and answer is the same in chat
as in training. Only a template's own text may become special tokens; all other text is characters.
Uses the `tokenizers` package alone. Knows nothing of rows, models or which template it serves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from corral.data.engines import encoders_of, make_special, prefix_ids_of, read_engine
from corral.data.model_files import (
    CHAT_TEMPLATE_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    ModelTexts,
    read_model_texts,
)
from corral.data.segments import Segment
from corral.data.templates import PromptTemplate
from corral.errors import ModelUnsupportedError

NEW_PAD_TOKEN = "<|pad|>"  # noqa: S105 - no password


@dataclass(frozen=True)
class Encoded:
    """Token ids with a label mask of the same length."""

    ids: list[int]
    trained: list[bool]


class TextTokenizer:
    """A tokenizer as a folder holds it. An answer ends in its end-of-text token."""

    def __init__(self, engine: Tokenizer, texts: ModelTexts, folder: Path) -> None:
        self._texts = texts
        self._engine = engine
        engine.no_padding()
        engine.no_truncation()
        # A token that is not marked special would be recognised in users' texts too.
        known = (text for _, text in texts.named_tokens if engine.token_to_id(text) is not None)
        make_special(engine, known)
        self._encoders = encoders_of(engine)
        self.eos_id = self._needed_id("eos_token", folder)
        self.prefix_ids = prefix_ids_of(engine)

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """Read tokenizer.json and what the files beside it say about special tokens.

        Raises ModelUnsupportedError where there is none, or no end-of-text token.
        """
        return cls(read_engine(folder), read_model_texts(folder), folder)

    @property
    def pad_id(self) -> int | None:
        return self.token_id(self._texts.token("pad_token"))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included: the rows that an embedding needs at least."""
        return self._engine.get_vocab_size(with_added_tokens=True)

    @property
    def definition(self) -> str:
        """The text of its tokenizer.json."""
        return self._engine.to_str()

    @property
    def sha256(self) -> str:
        """Hex digest of what decides which ids a text becomes and where answers end."""
        content = "\n".join((self._engine.to_str(), str(self.eos_id), str(self.pad_id)))
        return hashlib.sha256(content.encode()).hexdigest()

    def token_id(self, token: str | None) -> int | None:
        """The id of a token by its text, or None where there is no such token."""
        return None if token is None else self._engine.token_to_id(token)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids. Bytes that are no character show as U+FFFD."""
        return self._engine.decode(list(ids), skip_special_tokens=skip_special)

    def encode_segments(self, segments: Sequence[Segment]) -> Encoded:
        """Prefix ids, then each segment's, and behind each answer its end token."""
        return self.encode_many([segments])[0]

    def encode_prompt(self, segments: Sequence[Segment]) -> list[int]:
        """The ids alone, of segments that end where an answer begins."""
        return self.encode_segments(segments).ids

    def encode_many(self, conversations: Sequence[Sequence[Segment]]) -> list[Encoded]:
        """Like `encode_segments` for many, in parallel."""
        prepared = [self._without_own_ends(segments) for segments in conversations]
        ids = self._ids_of({key for keys in prepared for key in _keys(keys)})
        return [self._assemble(segments, ids) for segments in prepared]

    def _ids_of(self, keys: set[_Key]) -> dict[_Key, list[int]]:
        """Each different text is encoded once: a template's own texts repeat in every row."""
        result: dict[_Key, list[int]] = {}
        for (special, first), encoder in self._encoders.items():
            texts = sorted(text for text, *kind in keys if kind == [special, first])
            found = encoder.encode_batch_fast(texts, add_special_tokens=False)
            for text, encoding in zip(texts, found, strict=True):
                result[text, special, first] = encoding.ids
        return result

    def _assemble(self, segments: Sequence[Segment], encoded: dict[_Key, list[int]]) -> Encoded:
        ids: list[int] = []
        trained: list[bool] = []
        for key, segment in zip(_keys(segments), segments, strict=True):
            own = encoded[key]
            if segment.trained or segment.answer:
                own = [*own, self._end_id(segment)]
            ids += own
            trained += [segment.trained] * len(own)
        prefix = self.prefix_ids
        # Chat templates write the beginning-of-text token themselves.
        if prefix and ids[: len(prefix)] != prefix:
            ids, trained = prefix + ids, [False] * len(prefix) + trained
        return Encoded(ids, trained)

    def _without_own_ends(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments without the end tokens that the template itself writes behind answers, for
        they are added behind every answer.
        """
        result: list[Segment] = []
        for segment in segments:
            last = result[-1] if result else None
            if last is not None and (last.trained or last.answer) and segment.special:
                end = self._token(self._end_id(last))
                segment = replace(segment, text=segment.text.removeprefix(end))  # noqa: PLW2901
            result.append(segment)
        return result

    def _token(self, number: int) -> str:
        found = self._engine.id_to_token(number)
        assert found is not None, "only ids of this tokenizer are asked for"
        return found

    def _end_id(self, answer: Segment) -> int:
        own = self.token_id(answer.end)
        return self.eos_id if own is None else own

    def _needed_id(self, name: str, folder: Path) -> int:
        found = self.token_id(self._texts.token(name))
        if found is None:
            raise ModelUnsupportedError(
                f"The tokenizer in {folder} names no end-of-text token.",
                f"Set eos_token in its {TOKENIZER_CONFIG_FILE}.",
            )
        return found


class FittedTokenizer(TextTokenizer):
    """A tokenizer made ready for training: its end-of-text token is what answers end in, its padding
    token another, and the template's tokens are single tokens.
    """

    def __init__(
        self, engine: Tokenizer, texts: ModelTexts, folder: Path, added_tokens: list[str]
    ) -> None:
        super().__init__(engine, texts, folder)
        # Tokens that the base model's embedding may have no rows for, in order of their ids.
        self.added_tokens = added_tokens
        self._base_chat_template = texts.chat_template

    @property
    def end_token_id(self) -> int:
        return self.eos_id

    @property
    def pad_token_id(self) -> int:
        found = self.pad_id
        assert found is not None, "fitting chose a padding token"
        return found

    def save(self, folder: Path) -> None:
        """Write the files that transformers' AutoTokenizer reads, into an existing folder.

        What the base model's tokenizer_config.json says beyond that is kept.
        """
        self._engine.save(str(folder / TOKENIZER_FILE), pretty=False)
        named = dict(self._texts.named_tokens)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self._texts.config, **named}
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] = self._added_tokens_decoder()
        _write_json(folder / TOKENIZER_CONFIG_FILE, config)
        _write_json(folder / SPECIAL_TOKENS_FILE, named)
        if self._base_chat_template is not None and "chat_template" not in config:
            path = folder / CHAT_TEMPLATE_FILE
            path.write_text(self._base_chat_template, encoding="utf-8")

    def _added_tokens_decoder(self) -> dict[str, Any]:
        return {
            str(number): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for number, token in sorted(self._engine.get_added_tokens_decoder().items())
        }


def fit_tokenizer(folder: Path, template: PromptTemplate) -> FittedTokenizer:
    """Make a base model's tokenizer ready to train with a template.

    Raises ModelUnsupportedError where it has no end-of-text token and the template names none.
    """
    engine, texts = read_engine(folder), read_model_texts(folder)
    known_before = engine.get_vocab_size(with_added_tokens=True)
    named = dict(texts.named_tokens)
    named["pad_token"] = _pad_token(engine, texts, template)
    if template.end_token is not None:
        named["eos_token"] = template.end_token
    make_special(engine, [*template.added_tokens, *named.values()])
    size = engine.get_vocab_size(with_added_tokens=True)
    added = [engine.id_to_token(number) or "" for number in range(known_before, size)]
    fitted = replace(texts, named_tokens=tuple(sorted(named.items())))
    return FittedTokenizer(engine, fitted, folder, added)


def _pad_token(engine: Tokenizer, texts: ModelTexts, template: PromptTemplate) -> str:
    """A token that no answer ends in, for padding is never trained and ends always are."""
    ends = {texts.token("eos_token"), template.end_token}
    own = texts.token("pad_token")
    if own is not None and own not in ends and engine.token_to_id(own) is not None:
        return own
    unused = {*ends, texts.token("bos_token"), *template.added_tokens}
    reserved = sorted(token for token in texts.special_tokens if "pad" in token.lower())
    for token in (*reserved, texts.token("unk_token")):
        if token is not None and token not in unused and engine.token_to_id(token) is not None:
            return token
    return NEW_PAD_TOKEN


# ---------------------------------------------------------------- encoders

# A text, whether it may name special tokens, whether it is the first of its conversation.
_Key = tuple[str, bool, bool]


def _keys(segments: Iterable[Segment]) -> list[_Key]:
    return [(segment.text, segment.special, at == 0) for at, segment in enumerate(segments)]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
