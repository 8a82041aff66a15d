"""Tokenized examples on disk: written once, mapped into memory by every rank.

    datasets/<sha256>/prepared-<key>/
        tokens.bin     ids of all examples behind each other, 16 bits each where the vocabulary fits
        trained.bin    a byte for each token: 1 where it is a label, else 0
        lengths.bin    tokens of each example, 32 bits each
        labels.bin     label tokens of each example, 32 bits each
        index.json     sizes and checksums; written last

The key is a hash of all that decides what is in the files; the rows decide too, and the folder lies
beside them and goes with them. A folder appears whole, by rename, and is never changed. Losing one
costs the time to make it again, so nothing waits for the disk.

Knows nothing of how rows become examples, nor of batches or tensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import secrets
import shutil
import sys
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Literal, Self, overload

from pydantic import BaseModel, ConfigDict, ValidationError

from corral import __version__
from corral.data.examples import TokenizedExample

_FORMAT: Literal[1] = 1
_PREFIX = "prepared-"
_UNFINISHED_PREFIX = ".preparing-"
_INDEX = "index.json"
_TOKENS, _TRAINED, _LENGTHS, _LABELS = FILES = (
    "tokens.bin",
    "trained.bin",
    "lengths.bin",
    "labels.bin",
)
# Of one data set, for templates, tokenizers and lengths that were used last.
_KEPT_FOLDERS = 4
# A process that was killed leaves its folder; another's may still be growing.
_ABANDONED_SECONDS = 3600.0
_CHECKSUM_BYTES = 1024 * 1024


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    crc32: int


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = _FORMAT
    # Of `array`: 16 bits or 32.
    token_type: Literal["H", "I"]
    files: dict[str, _File]


def prepared_folder(
    dataset: Path, template_sha256: str, tokenizer_sha256: str, max_length: int
) -> Path:
    """Where the examples of a data set's folder lie for a template, a tokenizer and a length."""
    parts = [_FORMAT, __version__, sys.byteorder, template_sha256, tokenizer_sha256, max_length]
    return dataset / f"{_PREFIX}{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]}"


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class Examples(Sequence[TokenizedExample]):
    """Examples that lie in mapped files: one is read when it is asked for."""

    tokens: memoryview[int]
    trained: memoryview[int]
    # Where each example begins, in tokens.
    starts: array[int]
    # Tokens of each example.
    lengths: array[int]
    # Tokens of each example that are predicted and trained on. The first of an example never is.
    labels: array[int]

    @classmethod
    def open(cls, folder: Path, *, check: bool = True) -> Self | None:
        """Map a folder, or None where there is none or it is damaged.

        `check` compares every byte with its checksum, about a second for a gigabyte; without it the
        sizes alone.
        """
        index = _read_index(folder)
        if index is None or not all(_is_whole(folder / name, index, check) for name in FILES):
            return None
        with suppress(OSError):  # on a volume that can't be written nothing is removed either
            os.utime(folder / _INDEX)
        lengths, labels = array("I"), array("I")
        for name, values in ((_LENGTHS, lengths), (_LABELS, labels)):
            values.frombytes((folder / name).read_bytes())
        starts = array("Q", [0])
        starts.extend(accumulate(lengths))
        starts.pop()
        tokens = _mapped(folder / _TOKENS).cast(index.token_type)
        return cls(tokens, _mapped(folder / _TRAINED), starts, lengths, labels)

    def select(self, rows: Sequence[int]) -> Examples:
        """Some of the examples, in the order given; nothing is copied but their places."""

        def chosen(values: array[int]) -> array[int]:
            return array(values.typecode, (values[row] for row in rows))

        places = (chosen(self.starts), chosen(self.lengths), chosen(self.labels))
        return Examples(self.tokens, self.trained, *places)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, at: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, at: slice) -> Examples: ...
    def __getitem__(self, at: int | slice) -> TokenizedExample | Examples:
        if isinstance(at, slice):
            return self.select(range(*at.indices(len(self))))
        start = self.starts[at]
        end = start + self.lengths[at]
        ids = array("I", self.tokens[start:end].tolist())
        return TokenizedExample(ids, bytes(self.trained[start:end]))


def _read_index(folder: Path) -> _Index | None:
    try:
        index = _Index.model_validate_json((folder / _INDEX).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return index if set(index.files) == set(FILES) else None


def _is_whole(path: Path, index: _Index, check: bool) -> bool:
    expected = index.files[path.name]
    try:
        if path.stat().st_size != expected.size:
            return False
        return not check or _checksum(path) == expected.crc32
    except FileNotFoundError:
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHECKSUM_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _mapped(path: Path) -> memoryview[int]:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


# ---------------------------------------------------------------- writing


class ExamplesWriter:
    """Writes the folder that `Examples.open` maps; holds eight bytes an example.

    A context: what was not committed by its end is removed. Raises OSError.
    """

    def __init__(self, folder: Path, vocabulary: int) -> None:
        """`vocabulary` is the number of ids that there are."""
        self._folder = folder
        self._path = folder.with_name(f"{_UNFINISHED_PREFIX}{secrets.token_hex(8)}")
        self._token_type: Literal["H", "I"] = "H" if vocabulary <= 2**16 else "I"
        self._lengths, self._labels = array("I"), array("I")

    def __enter__(self) -> Self:
        _make_room(self._folder.parent)
        self._path.mkdir()
        with ExitStack() as stack:
            self._tokens = stack.enter_context(_Written(self._path / _TOKENS))
            self._trained = stack.enter_context(_Written(self._path / _TRAINED))
            self._files = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._files.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def add(self, example: TokenizedExample) -> None:
        """Append one example."""
        self._tokens.write(array(self._token_type, example.ids).tobytes())
        self._trained.write(example.trained)
        self._lengths.append(len(example.ids))
        self._labels.append(example.label_count)

    def commit(self) -> None:
        """Give the folder its name. One that is there already and whole is left as it is."""
        assert self._lengths, "nothing can be mapped of an empty file"
        self._files.close()
        written = {_TOKENS: self._tokens, _TRAINED: self._trained}
        for name, values in ((_LENGTHS, self._lengths), (_LABELS, self._labels)):
            with _Written(self._path / name) as written[name]:
                written[name].write(values.tobytes())
        files = {name: file.entry for name, file in written.items()}
        index = _Index(token_type=self._token_type, files=files)
        (self._path / _INDEX).write_text(index.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if Examples.open(self._folder) is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            try:
                self._path.rename(self._folder)
            except OSError as error:
                # Somebody else was faster with the same.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise


class _Written:
    """A file that is written once, front to back, with its checksum."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._size = 0
        self._crc32 = 0

    @property
    def entry(self) -> _File:
        return _File(size=self._size, crc32=self._crc32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)


def _make_room(dataset: Path) -> None:
    """Remove what was used least lately, so that there is place for one more, and what killed
    processes left.
    """
    folders = sorted(dataset.glob(f"{_PREFIX}*"), key=_last_used, reverse=True)
    for folder in folders[_KEPT_FOLDERS - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in _abandoned(dataset):
        shutil.rmtree(folder, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return (folder / _INDEX).stat().st_mtime
    except OSError:
        return 0.0


def _abandoned(dataset: Path) -> Iterator[Path]:
    for folder in dataset.glob(f"{_UNFINISHED_PREFIX}*"):
        newest = max((file.stat().st_mtime for file in folder.iterdir()), default=0.0)
        if time.time() - newest > _ABANDONED_SECONDS:
            yield folder
