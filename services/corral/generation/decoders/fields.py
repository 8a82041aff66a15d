"""A model's config.json read strictly: a field has the type that is asked for, and every choice that the
decoders do not know is refused by name.

Knows nothing of what the fields are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral.generation.decoders.shape import UnknownVariantError


class Fields:
    """The object of a config.json."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UnknownVariantError(f"{name} is {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UnknownVariantError(f"{name} is {value!r}")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        return None if self._values.get(name) is None else self.number(name, 0.0)

    def flag(self, name: str, default: bool) -> bool:
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise UnknownVariantError(f"{name} is {value!r}")
        return value

    def word(self, name: str, default: str) -> str:
        value = self._values.get(name) or default
        if not isinstance(value, str):
            raise UnknownVariantError(f"{name} is {value!r}")
        return value

    def words(self, name: str) -> list[str] | None:
        value = self._values.get(name)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(word, str) for word in value)
        ):
            raise UnknownVariantError(f"{name} is {value!r}")
        return value

    def table(self, name: str) -> Fields | None:
        """An object within the object, or None."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise UnknownVariantError(f"{name} is {value!r}")
        return Fields(value)

    def require(self, name: str, wanted: Any) -> None:
        """Raises UnknownVariantError unless the field is absent, null or as wanted."""
        if (value := self._values.get(name)) not in (None, wanted):
            raise UnknownVariantError(f"{name} is {value!r}")
