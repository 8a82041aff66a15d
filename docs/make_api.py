"""Writes docs/api.md from protos/, comments included: `make docs`.

buf reads the files; a test holds that the page is what this gives. Knows nothing of the services.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

PAGE = Path(__file__).parent / "api.md"
_PROJECT = Path(__file__).parent.parent
_BUF = Path(sys.executable).parent / "buf"

_INTRODUCTION = """\
# The gRPC API

<!-- Written by docs/make_api.py from protos/corral/v1: change the comments there, then run `make docs`. -->

Every service also answers `grpc.health.v1.Health` and, unless `CORRAL_REFLECTION=false`, reflection, so
`grpcurl -plaintext 127.0.0.1:7470 list` shows what is there. A call that fails carries an `ErrorDetail` in
the trailing metadata `corral-error-bin`. The same over HTTP, in OpenAI's shape, is in
[openai.md](openai.md)."""

# Numbers of the fields in a file's descriptor, by which comments are found.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _METHODS, _VALUES = 2, 3, 2, 2

Comments = dict[tuple[int, ...], str]
_SCALARS = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    for file in _files():
        comments = {
            tuple(place.path): _plain(place.leading_comments or place.trailing_comments)
            for place in file.source_code_info.location
        }
        for number, service in enumerate(file.service):
            parts.append(_service(service, (_SERVICES, number), comments))
        for number, message in enumerate(file.message_type):
            parts.append(_message(message, (_MESSAGES, number), comments))
        for number, enum in enumerate(file.enum_type):
            parts.append(_enum(enum, (_ENUMS, number), comments))
    return "\n\n".join(parts) + "\n"


def _files() -> Iterator[FileDescriptorProto]:
    command = [_BUF, "build", "--as-file-descriptor-set", "-o", "-"]
    built = subprocess.run(command, cwd=_PROJECT, check=True, capture_output=True)
    for file in FileDescriptorSet.FromString(built.stdout).file:
        if file.package == "corral.v1":
            yield file


def _service(service: ServiceDescriptorProto, path: tuple[int, ...], comments: Comments) -> str:
    rows = [("call", "takes", "gives", "")]
    for number, method in enumerate(service.method):
        takes, gives = _link(method.input_type), _link(method.output_type)
        rows.append(
            (
                f"`{method.name}`",
                f"stream of {takes}" if method.client_streaming else takes,
                f"stream of {gives}" if method.server_streaming else gives,
                comments.get((*path, _METHODS, number), ""),
            )
        )
    return "\n\n".join(filter(None, [f"## {service.name}", comments.get(path, ""), _table(rows)]))


def _message(message: DescriptorProto, path: tuple[int, ...], comments: Comments) -> str:
    rows = [("field", "type", "")]
    for number, field in enumerate(message.field):
        said = comments.get((*path, _FIELDS, number), "")
        rows.append((f"`{field.name}` = {field.number}", _type(message, field), said))
    parts = [f"### {message.name}", comments.get(path, "")]
    parts.append(_table(rows) if message.field else "No fields.")
    for number, enum in enumerate(message.enum_type):
        parts.append(_enum(enum, (*path, 4, number), comments, of=f"{message.name}."))
    return "\n\n".join(filter(None, parts))


def _enum(
    enum: EnumDescriptorProto, path: tuple[int, ...], comments: Comments, of: str = ""
) -> str:
    rows = [("value", "")]
    for number, value in enumerate(enum.value):
        said = comments.get((*path, _VALUES, number), "")
        rows.append((f"`{value.name}` = {value.number}", said))
    return "\n\n".join(filter(None, [f"### {of}{enum.name}", comments.get(path, ""), _table(rows)]))


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entry = next(
        (one for one in message.nested_type if field.type_name.endswith(f".{one.name}")), None
    )
    if entry is not None and entry.options.map_entry:
        return f"map of {_type(message, entry.field[0])} to {_type(message, entry.field[1])}"
    name = _link(field.type_name) if field.type_name else _SCALARS[field.type]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return name


def _link(type_name: str) -> str:
    short = type_name.rpartition(".")[2]
    return f"[{short}](#{short.lower()})" if type_name.startswith(".corral.") else f"`{short}`"


def _plain(comment: str) -> str:
    return " ".join(comment.split())


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
