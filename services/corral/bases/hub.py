"""Models of the Hugging Face hub: from the local cache, else downloaded. Safetensors and JSON only.

Knows nothing of the volume or of other sources of models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corral.bases.architecture import ARCHITECTURES, CONFIG_FILE
from corral.errors import HubUnavailableError, ModelNotFoundError

TOKENIZER_PATTERNS = ("*.json", "*.jinja")
# Never *.bin or *.py: pickle and code would run.
MODEL_PATTERNS = (*TOKENIZER_PATTERNS, "*.safetensors")
# The same model in other forms (onnx/, original/).
_IGNORED = ("*/*",)

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def find_on_hub(model: str, patterns: tuple[str, ...], *, download: bool) -> Path:
    """The cached snapshot of a hub id, fetched first where it is not complete.

    Raises ModelNotFoundError where there is no such model or it is not open to this user,
    HubUnavailableError where it is not cached and the hub does not answer.
    """
    if not _ID.fullmatch(model):
        raise _unknown(model)
    cached = _cached(model, patterns)
    if cached is not None:
        return cached
    if not download:
        raise ModelNotFoundError(f"{model} is not on this machine.")
    return _download(model, patterns)


def pull_from_hub(model: str, on_bytes: Callable[[int, int], None]) -> Path:
    """Fetch what is missing of a hub id; `on_bytes` hears bytes done and bytes in all, from other
    threads. What an earlier attempt left unfinished is gone on with. Raises like `find_on_hub`.
    """
    if not _ID.fullmatch(model):
        raise _unknown(model)
    return _download(model, MODEL_PATTERNS, _reporting(on_bytes))


def _reporting(on_bytes: Callable[[int, int], None]) -> type[Any]:
    """A class of progress bars, as the hub's library wants one, that draws nothing and tells."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """Of several bars the library makes, the one of bytes on the disk counts for all files."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.tells = kwargs.pop("name", "") == "huggingface_hub.snapshot_download"
            self.done = 0
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            if self.tells:
                on_bytes(self.done, max(self.done, int(self.total or 0)))
            return None

    return Bar


def list_cached() -> Iterator[str]:
    """Ids of models in the local cache, with weights, of an architecture that can be trained."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in sorted(Path(HF_HUB_CACHE).glob("models--*")):
        try:
            snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
            config = json.loads((snapshot / CONFIG_FILE).read_bytes())
            usable = config["architectures"][0] in ARCHITECTURES
        # Whatever else lies there is not ours to complain about.
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if usable and any(snapshot.glob("*.safetensors")):
            yield folder.name.removeprefix("models--").replace("--", "/")


def _cached(model: str, patterns: tuple[str, ...]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                model,
                allow_patterns=list(patterns),
                ignore_patterns=list(_IGNORED),
                local_files_only=True,
            )
        )
    except HFValidationError as error:
        raise _unknown(model) from error
    except (LocalEntryNotFoundError, OSError):
        return None
    # A snapshot of which only some files were fetched counts as one to the hub's library.
    needed = [CONFIG_FILE, "tokenizer.json", *(["*.safetensors"] if _weights(patterns) else [])]
    return folder if all(any(folder.glob(name)) for name in needed) else None


def _unknown(model: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no base model {model!r:.120}.", "Give a hub id, a folder, or smollm2-135m."
    )


def _weights(patterns: tuple[str, ...]) -> bool:
    return "*.safetensors" in patterns


def _download(model: str, patterns: tuple[str, ...], bars: type[Any] | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(
                model,
                allow_patterns=list(patterns),
                ignore_patterns=list(_IGNORED),
                tqdm_class=bars,
            )
        )
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"{model} is not open to everybody.",
            "Accept its terms on the hub and set HF_TOKEN, or take another model.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"There is no model {model} on the hub.",
            "Check its name; a private one needs HF_TOKEN.",
        ) from error
    # The hub's library lets through whatever its HTTP library raises, and that has changed.
    except Exception as error:
        raise HubUnavailableError(
            f"{model} is not on this machine and the model hub can't be reached "
            f"({type(error.__cause__ or error).__name__}).",
            "Connect to the network, give a local folder, or take smollm2-135m.",
        ) from error
