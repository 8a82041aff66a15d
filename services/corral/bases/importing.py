"""Base models that a person brings: received file by file, checked, and put into place whole.

    bases/<name>/            the Hugging Face folder, and base.json: where it came from, every file's hash
    bases/.<name>.import-…/  one that is arriving

Knows nothing of how the files travel.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from corral.bases import smollm2
from corral.bases.architecture import CONFIG_FILE, check_architecture, context_length, unloadable
from corral.bases.placing import fsync_folder
from corral.data.tokenizing import TextTokenizer
from corral.errors import ConflictError, InvalidRequestError, ModelNotFoundError
from corral.storage import storage_errors
from corral.volume import Volume

RECORD_NAME = "base.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Never *.bin or *.py: pickle and code would run.
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}\.(json|jinja|safetensors)")
# Beside the weights only texts: the largest tokenizer.json of the families on the list has 33 MB.
_LARGEST_TEXT = 256 * 1024 * 1024


class BaseFile(BaseModel):
    """One file of a base model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int


class BaseRecord(BaseModel):
    """What base.json says. `created_at` is seconds since the epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    architecture: str
    created_at: float
    files: dict[str, BaseFile]

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files.values())


@dataclass
class Import:
    """A base model that is arriving. Leaving the context without `finish` removes what came."""

    volume: Volume
    name: str
    source: str
    _folder: Path = field(init=False)
    _current: BinaryIO | None = field(default=None, init=False)
    _current_name: str = field(default="", init=False)
    _digest: hashlib._Hash = field(init=False)
    _files: dict[str, BaseFile] = field(default_factory=dict, init=False)

    def __enter__(self) -> Self:
        """Raises InvalidRequestError for a name that can't be one, ConflictError for one that is
        taken.
        """
        check_name(self.name)
        _check_free(self.volume, self.name)
        self._folder = self.volume.bases / f".{self.name}.import-{secrets.token_hex(6)}"
        with storage_errors(f"the model {self.name}"):
            self._folder.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._current is not None:
            self._current.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, file: str, piece: bytes) -> None:
        """The next piece of a file; all pieces of one file come together.

        Raises InvalidRequestError for a file that no model folder needs or that comes twice,
        StorageFullError.
        """
        with storage_errors(f"the model {self.name}"):
            if file != self._current_name:
                self._end_file()
                self._begin_file(file)
            assert self._current is not None, "a file has begun"
            self._current.write(piece)
        self._digest.update(piece)
        too_large = self._current.tell() > _LARGEST_TEXT and not file.endswith(".safetensors")
        if too_large:
            raise InvalidRequestError(f"{file} is larger than {_LARGEST_TEXT} bytes.")

    def finish(self) -> BaseRecord:
        """Check the folder and give it its name.

        Raises ModelUnsupportedError where the folder is incomplete, broken, or of an architecture
        that is not on the list.
        """
        with storage_errors(f"the model {self.name}"):
            self._end_file()
            record = BaseRecord(
                name=self.name,
                source=self.source,
                architecture=check_folder(self._folder),
                created_at=time.time(),
                files=dict(sorted(self._files.items())),
            )
            text = record.model_dump_json(indent=2) + "\n"
            (self._folder / RECORD_NAME).write_text(text, encoding="utf-8")
            fsync_folder(self._folder)
            _check_free(self.volume, self.name)
            self._folder.rename(self.volume.bases / self.name)
        return record

    def _begin_file(self, file: str) -> None:
        if not _FILE.fullmatch(file):
            raise InvalidRequestError(
                f"{file!r:.140} can't be part of a model.",
                "Send config.json, the tokenizer's JSON files and the .safetensors, without folders.",
            )
        if file in self._files:
            raise InvalidRequestError(f"{file} was sent twice.")
        self._current = (self._folder / file).open("wb")
        self._current_name = file
        self._digest = hashlib.sha256()

    def _end_file(self) -> None:
        if self._current is None:
            return
        size = self._current.tell()
        self._current.close()
        self._current = None
        self._files[self._current_name] = BaseFile(sha256=self._digest.hexdigest(), size=size)


def check_name(name: str) -> str:
    """The name itself. Raises InvalidRequestError where it can't be one."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r:.80} can't be a base model's name.",
            "Take 1 to 63 of a-z, 0-9, dot, dash and underscore.",
        )
    return name


def check_folder(folder: Path) -> str:
    """The architecture of a folder that holds all that a base model needs.

    Raises ModelUnsupportedError naming what is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    architecture = check_architecture(folder)
    context_length(folder)
    tokens = TextTokenizer.from_folder(folder).vocab_size
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise unloadable(folder, "there is no .safetensors file in it")
    rows = 0
    for file in weights:
        try:
            # Reads the header, and holds it against the file's length.
            with safe_open(file, "np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    if name.endswith(("embed_tokens.weight", "wte.weight")):
                        rows = tensors.get_slice(name).get_shape()[0]
        except SafetensorError as error:
            raise unloadable(folder, f"{file.name} is not a safetensors file: {error}") from error
    if not rows:
        raise unloadable(folder, f"no file of it holds the embedding that {CONFIG_FILE} asks for")
    if tokens > rows:
        raise unloadable(
            folder, f"its tokenizer has {tokens:,} tokens, its embedding {rows:,} rows"
        )
    return architecture


def read_record(volume: Volume, name: str) -> BaseRecord:
    """What was recorded at a model's import.

    Raises ModelNotFoundError where no model of that name was imported.
    """
    try:
        content = (volume.bases / check_name(name) / RECORD_NAME).read_bytes()
        return BaseRecord.model_validate_json(content)
    except (OSError, ValidationError):
        raise ModelNotFoundError(
            f"{name} is no imported base model.", "`corral models list` shows what there is."
        ) from None


def remove(volume: Volume, name: str) -> None:
    """Remove an imported model. Raises ModelNotFoundError. That no job needs it is the caller's to
    see to.
    """
    read_record(volume, name)
    # Out of sight at once: nothing finds half of it.
    trash = volume.bases / f".{name}.import-{secrets.token_hex(6)}"
    (volume.bases / name).rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def sweep(volume: Volume) -> None:
    """Remove what killed servers left half imported or half removed. Once, when a server starts that
    has the volume to itself.
    """
    for left in volume.bases.glob(".*.import-*"):
        shutil.rmtree(left, ignore_errors=True)


def _check_free(volume: Volume, name: str) -> None:
    if name == smollm2.NAME or (volume.bases / name).exists():
        raise ConflictError(
            f"There is a base model {name} already.",
            "Take another name, or remove it: corral models delete.",
        )
