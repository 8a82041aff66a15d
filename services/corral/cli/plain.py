"""Protobuf messages as plain typed JSON: what `--json` prints.

protobuf's own mapping writes 64-bit numbers as strings and durations as "3.5s"; programs that read
our output want numbers. Field names stay the proto's; enum values lose their type's prefix
(`RUNNING`, not `JOB_STATE_RUNNING`); timestamps are ISO 8601 in UTC, durations seconds; what is not
set is null. Knows nothing of the messages themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any

from corral.client.wire import enum_name

if TYPE_CHECKING:
    from google.protobuf.message import Message

    # The C implementation's descriptors are a class of their own.
    FieldDescriptor = Any

_WELL_KNOWN: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": lambda value: value.ToDatetime(tzinfo=UTC).isoformat(),
    "google.protobuf.Duration": lambda value: value.ToNanoseconds() / 1e9,
}


def to_plain(message: Message) -> dict[str, Any]:
    """The message's fields in the proto's order. Of a oneof only the one that is set is there."""
    return {
        field.name: _field(message, field)
        for field in message.DESCRIPTOR.fields
        if not _is_absent_member(message, field)
    }


def _field(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        known = _WELL_KNOWN.get(field.message_type.full_name)
        return known(value) if known else to_plain(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    return value


def _is_absent_member(message: Message, field: FieldDescriptor) -> bool:
    group = field.containing_oneof
    if group is None or _is_optional(field):
        return False
    return bool(message.WhichOneof(group.name) != field.name)


def _is_optional(field: FieldDescriptor) -> bool:
    """`optional` fields are members of a hidden oneof of their own."""
    group = field.containing_oneof
    return bool(group is not None and group.name == f"_{field.name}")
