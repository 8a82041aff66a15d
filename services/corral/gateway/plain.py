"""A protobuf message as JSON shows it to a person: numbers as numbers, durations in seconds.

protobuf's own JSON writes 64-bit numbers and NaN as strings. Knows nothing of what messages mean.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from corral.gateway.schemas.base import finite


def plain(message: Message) -> dict[str, Any]:
    """Every field that has a value, by its name. Maps are not among them."""
    # A FieldDescriptor is protobuf's own or its C library's: no type names both.
    return {
        field.name: _value(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if isinstance(value, Duration):
        return value.ToMicroseconds() / 1e6
    if isinstance(value, Timestamp):
        return value.ToMicroseconds() / 1e6
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return finite(value) if isinstance(value, float) else value
