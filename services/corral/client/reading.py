"""Messages as values: each field of a value from the message's field of the same name.

Knows nothing of which values there are: a value's own annotations say what its fields are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from corral.client.wire import enum_name

if TYPE_CHECKING:
    from google.protobuf.message import Message

Value = TypeVar("Value")


def read(cls: type[Value], message: Message, **others: Any) -> Value:
    """The message as a value of `cls`; `others` are fields that no message has."""
    known: Any = cls
    hints: list[tuple[str, Any]] = _hints(known)
    found = {name: _field(message, name, hint) for name, hint in hints if name not in others}
    return cls(**found, **others)


@cache
def _hints(cls: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls)
    return [(field.name, hints[field.name]) for field in fields(cls)]


def _field(message: Message, name: str, hint: Any) -> Any:
    # The C implementation's descriptors are a class of their own.
    field: Any = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        # A spec that is not there is one without fields.
        return {} if get_origin(hint) is Mapping else None
    value = getattr(message, name)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value).lower()
    if get_origin(hint) is tuple:
        item: Any = get_args(hint)[0]
        is_nested = is_dataclass(item)
        return tuple(read(item, one) if is_nested else one for one in value)
    if field.message_type is None:
        return value
    return _nested(value, field.message_type.full_name, hint)


def _nested(value: Any, full_name: str, hint: Any) -> Any:
    if full_name == "google.protobuf.Timestamp":
        return value.ToDatetime(tzinfo=UTC)
    if full_name == "google.protobuf.Duration":
        return value.ToNanoseconds() / 1e9
    if get_origin(hint) is Mapping:
        is_map = not hasattr(value, "ListFields")
        return dict(value) if is_map else {one.name: set_ for one, set_ in value.ListFields()}
    [cls] = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    return read(cls, value)
