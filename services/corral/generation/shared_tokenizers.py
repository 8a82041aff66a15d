"""Tokenizers that several models share: those of one job's checkpoints are the same, and so is a model's
own when it is loaded again in another precision.

Reading one holds Python's lock for a tenth of a second and more (49,000 tokens), in which no stream goes
on. Knows nothing of weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

from corral.checkpoints.manifest import MANIFEST_NAME, sha256_of
from corral.data.tokenizing import TextTokenizer

# Names and hashes of the files that a tokenizer may depend on.
_Key: TypeAlias = tuple[tuple[str, str], ...]


class SharedTokenizers:
    """Each tokenizer once, as long as somebody holds it. May be used by several threads; two that
    read the same one at the same moment get a copy each.
    """

    def __init__(self) -> None:
        self._tokenizers: WeakValueDictionary[_Key, TextTokenizer] = WeakValueDictionary()

    def open(self, folder: Path) -> TextTokenizer:
        """Raises as `TextTokenizer.from_folder` does."""
        # All texts but the checkpoint's own identity: config.json too may say which token ends an answer.
        texts = sorted((*folder.glob("*.json"), *folder.glob("*.jinja")))
        key = tuple((file.name, sha256_of(file)) for file in texts if file.name != MANIFEST_NAME)
        tokenizer = self._tokenizers.get(key)
        if tokenizer is None:
            tokenizer = self._tokenizers[key] = TextTokenizer.from_folder(folder)
        return tokenizer
