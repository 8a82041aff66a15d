"""What a model's config.json says: whether Corral trains its architecture, and how long its context
is.

Reads that one file. Knows nothing of weights or of how the folder was found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corral.errors import ModelUnsupportedError

ARCHITECTURES = (
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma3ForCausalLM",
)

CONFIG_FILE = "config.json"


def check_architecture(folder: Path) -> str:
    """The architecture's name, as transformers calls its class.

    Raises ModelUnsupportedError where it is not on the list, or the folder wants to run code of its
    own.
    """
    config = read_config(folder)
    if "auto_map" in config:
        raise ModelUnsupportedError(
            f"The model in {folder} needs Python code that comes with it, which Corral never runs."
        )
    named = config.get("architectures")
    found = named[0] if isinstance(named, list) and len(named) == 1 else None
    if found not in ARCHITECTURES:
        raise ModelUnsupportedError(
            f"The model in {folder} is of architecture {named!r:.120}.",
            f"These can be trained: {', '.join(ARCHITECTURES)}.",
        )
    return str(found)


def context_length(folder: Path) -> int:
    """The most tokens that the model can read at once.

    Raises ModelUnsupportedError where config.json does not say it.
    """
    config = read_config(folder)
    for key in ("n_positions", "max_position_embeddings"):
        length = config.get(key)
        if isinstance(length, int) and length > 0:
            return length
    raise ModelUnsupportedError(f"{folder / CONFIG_FILE} does not say how long the context is.")


def unloadable(folder: Path, why: str) -> ModelUnsupportedError:
    """The error that says why a folder can't be loaded, and what can."""
    return ModelUnsupportedError(
        f"The model in {folder} can't be loaded: {why}.",
        "Use a complete Hugging Face folder with safetensors, as save_pretrained writes it.",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The object in config.json. Raises ModelUnsupportedError where there is none."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelUnsupportedError(
            f"There is no {CONFIG_FILE} in {folder}.", "A Hugging Face model folder is needed."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnsupportedError(f"{path} can't be read: {error}.") from error
    if not isinstance(config, dict):
        raise ModelUnsupportedError(f"{path} is not a JSON object.")
    return config
