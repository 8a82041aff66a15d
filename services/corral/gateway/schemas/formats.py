"""The form that an answer is to have: text, any JSON object, or JSON of a schema.

Knows nothing of how an answer is held to it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from corral.gateway.schemas.base import Body


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Body):
    """A schema under a name. An answer always keeps to it: `strict` changes nothing."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class TextSchemaFormat(Body):
    """JSON of a schema, as /v1/responses has it: the schema stands beside its name."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


def schema_of(
    wanted: TextFormat | JsonObjectFormat | JsonSchemaFormat | TextSchemaFormat | None,
) -> str | None:
    """The JSON schema that an answer is held to, or None for any text."""
    if isinstance(wanted, JsonObjectFormat):
        return '{"type":"object"}'
    if isinstance(wanted, JsonSchemaFormat):
        return json.dumps(wanted.json_schema.schema_)
    if isinstance(wanted, TextSchemaFormat):
        return json.dumps(wanted.schema_)
    return None
