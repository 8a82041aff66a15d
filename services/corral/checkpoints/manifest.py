"""manifest.json: what a checkpoint is, and the hash of each of its files.

It is written last, so a folder with a manifest is a whole checkpoint. The prompt template travels in
it, so that chat renders exactly what was trained. Knows nothing of tensors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corral.errors import CheckpointCorruptError
from corral.spec import TrainingSpec

MANIFEST_NAME = "manifest.json"
# Folder of the training state within a checkpoint: what resuming needs and chatting does not.
STATE_FOLDER = "state"
_CHUNK_BYTES = 4 * 1024 * 1024


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Frozen):
    """One file of the checkpoint, by its path relative to the folder."""

    sha256: str
    size: int


class Metrics(_Frozen):
    """How good it is: nats per label token; `epoch` is the share of epochs seen, 1.5 say."""

    loss: float
    epoch: float
    # Of the evaluation at its step, if there was one, as corral.run.EvaluationDone has them.
    eval_loss: float | None = None
    perplexity: float | None = None
    stop_rate: float | None = None
    repetition_rate: float | None = None


class AdapterEntry(_Frozen):
    """The LoRA adapter beside the merged weights, in peft's format: its folder within the checkpoint,
    and the sha256 of the weights of the base model that it belongs to. Checkpoints whose bases have
    the same hash can share one.
    """

    folder: str
    base_sha256: str


class Manifest(_Frozen):
    """A checkpoint's identity card."""

    format: Literal[1] = 1
    job_id: str
    attempt: int
    step: int
    total_steps: int
    is_final: bool
    base_model: str
    # As corral.data.templates.PromptTemplate.to_manifest gives it, and its hash.
    template: dict[str, Any]
    template_sha256: str
    tokenizer_sha256: str
    spec: TrainingSpec
    dataset_id: str
    metrics: Metrics
    created_at: float
    # Where only an adapter was trained; the weights are merged all the same.
    adapter: AdapterEntry | None = None
    files: dict[str, FileEntry] = Field(min_length=1)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, the manifest aside."""
        return sum(entry.size for entry in self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder.

    Raises CheckpointCorruptError where there is none or it is not one.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointCorruptError(f"{path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        raise CheckpointCorruptError(
            f"{path} is not a manifest: {error.errors()[0]['msg']}."
        ) from error


def verify(folder: Path, *, with_state: bool = True, with_hashes: bool = True) -> Manifest:
    """Check that every file is there, of its size and hash, and return the manifest.

    Without `with_state` the training state, two thirds of the bytes, is not looked at; without
    `with_hashes` no file is read, and sizes alone are compared. Raises CheckpointCorruptError naming
    the first file that differs.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        if not with_state and name.startswith(f"{STATE_FOLDER}/"):
            continue
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointCorruptError(f"{folder}: {name!r} lies outside the checkpoint.")
        if not path.is_file():
            raise CheckpointCorruptError(f"{folder}: {name} is missing.")
        is_whole = path.stat().st_size == entry.size
        if not is_whole or (with_hashes and sha256_of(path) != entry.sha256):
            raise CheckpointCorruptError(f"{folder}: {name} is not what was written.")
    return manifest


def weights_hash(folder: Path) -> str:
    """sha256 of a base model's weights: of its one .safetensors file, or of the hashes of several in
    the order of their names.
    """
    hashes = [sha256_of(path) for path in sorted(folder.glob("*.safetensors"))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
