"""What all bodies share: unknown and unsupported parameters are refused by name, never ignored.

Knows nothing of any one call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from corral.gateway.errors import UNSUPPORTED

# Bounds of the wire's int32.
LARGEST_INT = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=LARGEST_INT)]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
# Values with which a parameter asks for nothing.
NOTHING: tuple[Any, ...] = (None, [], {})


class Body(BaseModel):
    """A request's body. `unsupported` has parameters of OpenAI's that are taken with the given values
    only, with which they ask for nothing that Corral does not do anyway.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, harmless in cls.unsupported.items():
            if name in data and not any(_same(data[name], value) for value in harmless):
                raise PydanticCustomError(
                    UNSUPPORTED, "{param} is not supported by Corral", {"param": name}
                )
        return {name: value for name, value in data.items() if name not in cls.unsupported}


class View(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(ser_json_inf_nan="null")


class Deleted(View):
    """What was asked to be deleted is gone."""

    id: str
    object: str
    deleted: Literal[True] = True


def finite(number: float) -> float | None:
    """The number, or None for one that JSON has no word for."""
    return number if math.isfinite(number) else None


def _same(given: Any, value: Any) -> bool:
    # 0 is not False here, and 1 is not True.
    return type(given) is type(value) and bool(given == value)
