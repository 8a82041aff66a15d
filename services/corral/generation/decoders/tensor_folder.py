"""The tensors of a Hugging Face folder by their names, mapped from its safetensors files.

Nothing is read before it is used. Knows nothing of architectures.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from corral.bases import unloadable


class TensorFolder:
    """Hands out each tensor once, and knows what is left. Use as a context."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelUnsupportedError where there are no safetensors, or they are damaged."""
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise unloadable(folder, "there is no .safetensors file in it")
        for path in paths:
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise unloadable(folder, f"{path.name}: {error}") from error
            self._files |= dict.fromkeys(file.keys(), file)

    def __enter__(self) -> TensorFolder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def names(self) -> frozenset[str]:
        """Of the tensors that nobody has taken yet."""
        return frozenset(self._files)

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor, which must be of that shape.

        Raises ModelUnsupportedError where it is absent or of another.
        """
        found = self.take_if_there(name, *shape)
        if found is None:
            raise unloadable(self._folder, f"tensor {name} is absent")
        return found

    def take_if_there(self, name: str, *shape: int) -> Tensor | None:
        """A tensor or None. Raises ModelUnsupportedError where it is of another shape."""
        file = self._files.pop(name, None)
        if file is None:
            return None
        tensor: Tensor = file.get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise unloadable(
                self._folder, f"tensor {name} has shape {list(tensor.shape)}, not {list(shape)}"
            )
        return tensor
