"""A form with a file, read as it arrives: no part is held in whole but the short fields.

Knows nothing of what the fields mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from corral.errors import InvalidRequestError

_LONGEST_FIELD = 4096
_MOST_FIELDS = 32


@dataclass(frozen=True)
class FilePart:
    """A file begins. `field` is its name in the form."""

    field: str
    filename: str


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    value: bytearray = field(default_factory=bytearray)


class FormReader:
    """The parts of one form. `parts` gives a FilePart for each file and then its bytes in pieces;
    short fields are in `fields` once they have passed by, all of them at the end.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Raises InvalidRequestError for a body that is no form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequestError(
                "The body is not multipart/form-data.", "Send the fields file and purpose."
            )
        self.fields: dict[str, str] = {}
        self._body = body
        self._found: deque[FilePart | bytes] = deque()
        self._part = _Part()
        self._header = b""
        self._is_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _broken(error) from None

    async def parts(self) -> AsyncGenerator[FilePart | bytes]:
        """Raises InvalidRequestError where the form is broken, or ends before its end."""
        async for chunk in self._body:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise _broken(error) from None
            while self._found:
                yield self._found.popleft()
        if not self._is_ended:
            raise InvalidRequestError("The form ends before its end.", "Send it again.")

    # ------------------------------------------------------------ the parser's callbacks

    def _begin(self) -> None:
        self._part = _Part()
        self._header = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        name = self._header.decode("latin-1").lower()
        self._part.headers[name] = self._part.headers.get(name, b"") + data[start:end]

    def _header_end(self) -> None:
        self._header = b""

    def _headers_end(self) -> None:
        disposition = self._part.headers.get("content-disposition", b"")
        _, options = parse_options_header(disposition)
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if (filename := options.get(b"filename")) is not None:
            self._part.filename = filename.decode("utf-8", "replace")
            self._found.append(FilePart(self._part.name, self._part.filename))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self._found.append(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > _LONGEST_FIELD:
            raise InvalidRequestError(
                f"{self._part.name}: more than {_LONGEST_FIELD} bytes.",
                "A file's part has a filename.",
            )

    def _part_end(self) -> None:
        if self._part.filename is None:
            if len(self.fields) == _MOST_FIELDS:
                raise InvalidRequestError(f"The form has more than {_MOST_FIELDS} fields.")
            self.fields[self._part.name] = self._part.value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_ended = True


def _broken(error: FormParserError) -> InvalidRequestError:
    return InvalidRequestError(f"The form can't be read: {error}.")
