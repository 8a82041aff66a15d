"""Reads the small JSON files of a Hugging Face folder: special tokens, ids, chat template.

Knows which file wins where several say the same; knows nothing of encoding text or rendering.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.errors import ModelUnsupportedError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"

_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class ModelTexts:
    """What a model's folder says about its tokenizer, in texts."""

    # tokenizer_config.json as it is.
    config: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    # "bos_token" and its like with their texts, sorted by name.
    named_tokens: tuple[tuple[str, str], ...] = ()
    # The texts of all special tokens.
    special_tokens: frozenset[str] = frozenset()

    def token(self, name: str) -> str | None:
        """The text of `bos_token`, `eos_token`, `pad_token` or `unk_token`."""
        return dict(self.named_tokens).get(name)


def read_model_texts(folder: Path) -> ModelTexts:
    """What a folder's JSON files say. A special token is looked up in tokenizer_config.json, then in
    special_tokens_map.json, then by its id in generation_config.json and config.json.

    Raises ModelUnsupportedError where tokenizer.json is missing or a file is not JSON.
    """
    config = read_json(folder / TOKENIZER_CONFIG_FILE)
    tokenizer = read_json(folder / TOKENIZER_FILE)
    if not tokenizer:
        raise ModelUnsupportedError(
            f"There is no {TOKENIZER_FILE} in {folder}.",
            "Save the model's fast tokenizer there: AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(...).",
        )
    added = [t for t in tokenizer.get("added_tokens") or [] if "content" in t]
    special = {str(token["content"]) for token in added if token.get("special")}
    tokens = _named_tokens(folder, config, _texts_by_id(tokenizer, added))
    return ModelTexts(
        config=config,
        chat_template=_chat_template(folder, config),
        named_tokens=tuple(sorted(tokens.items())),
        special_tokens=frozenset(special | set(tokens.values())),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is no such file.

    Raises ModelUnsupportedError where it is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnsupportedError(f"{path} can't be read: {error}.") from error
    if not isinstance(value, dict):
        raise ModelUnsupportedError(f"{path} is not a JSON object.")
    return value


def _named_tokens(
    folder: Path, config: Mapping[str, Any], by_id: Mapping[Any, str]
) -> dict[str, str]:
    special_map = read_json(folder / SPECIAL_TOKENS_FILE)
    ids = (read_json(folder / "generation_config.json"), read_json(folder / "config.json"))
    found: dict[str, str] = {}
    for name in _NAMED:
        texts = (_text_of(source.get(name)) for source in (config, special_map))
        numbers = (_first(source.get(f"{name}_id")) for source in ids)
        text = next(filter(None, texts), None) or next(
            (by_id[number] for number in numbers if number in by_id), None
        )
        if text:
            found[name] = text
    return found


def _texts_by_id(tokenizer: Mapping[str, Any], added: list[dict[str, Any]]) -> dict[Any, str]:
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ordinary = vocabulary.items() if isinstance(vocabulary, dict) else ()
    return {number: text for text, number in ordinary} | {
        token.get("id"): str(token["content"]) for token in added
    }


def _text_of(token: object) -> str | None:
    """A token is written as text, or as an object with its content."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _first(ids: object) -> object:
    """generation_config.json may list several end tokens."""
    return next(iter(ids), None) if isinstance(ids, list) else ids


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / CHAT_TEMPLATE_FILE
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelUnsupportedError(f"{file} can't be read: {error}.") from error
    template = config.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
