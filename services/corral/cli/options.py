"""What a user writes for a template or a preamble, as fields of a training spec.

Both may be a text or a name, or a file that holds the text. Knows nothing of the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral.data.preambles import named_preamble
from corral.errors import InvalidRequestError

JINJA_SUFFIXES = (".jinja", ".jinja2", ".j2")
_TEXT_SUFFIXES = (".txt", ".md", *JINJA_SUFFIXES)


def read_text_or_file(value: str) -> str:
    """The text itself, or what stands in the file of that name, without the newline at its end.

    Raises InvalidRequestError where the file can't be read as UTF-8, or where the value is plainly
    meant as the name of a file that is not there.
    """
    path = Path(value)
    try:
        is_file = path.is_file()
    except OSError:  # a text longer than a file's name may be
        is_file = False
    if is_file:
        return _read(path).removesuffix("\n").removesuffix("\r")
    if path.suffix in _TEXT_SUFFIXES and not any(character.isspace() for character in value):
        raise InvalidRequestError(f"There is no file {value}.", "Give the text, or a file with it.")
    return value


def template_fields(template: str | None = None, preamble: str | None = None) -> dict[str, Any]:
    """The spec's fields for `--template` and `--preamble`; what was not given is not in it.

    A template that ends in .jinja is a file: its text goes into template_source. A preamble alone
    leaves the template to its default; it may be the name of a shipped one. Raises InvalidRequestError for "jinja" without its file.
    """
    fields: dict[str, Any] = {}
    if template is not None and Path(template).suffix in JINJA_SUFFIXES:
        fields |= {"template": "jinja", "template_source": read_text_or_file(template)}
    elif template == "jinja":
        raise InvalidRequestError(
            "--template jinja: which template is not said.", "Name its file: --template my.jinja"
        )
    elif template is not None:
        fields["template"] = template
    if preamble is not None:
        fields["preamble"] = named_preamble(preamble) or read_text_or_file(preamble)
    return fields


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path} is not UTF-8.", "Save it as UTF-8.") from error
    except OSError as error:
        raise InvalidRequestError(f"{path} can't be read: {error.strerror}.") from error
