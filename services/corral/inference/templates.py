"""A prompt template that a request names in place of the model's own: for comparing prompts.

Knows nothing of models beyond their folders.
"""

from __future__ import annotations

from pathlib import Path

from corral.data.templates import PromptTemplate
from corral.errors import InvalidRequestError, SpecError
from corral.spec import parse_spec
from corral.v1 import inference_pb2 as pb


def template_asked(message: pb.PromptTemplate, folder: Path) -> PromptTemplate:
    """The template of a request, for the model in `folder`, whose special tokens it may name.

    Raises InvalidRequestError for fields that do not fit together, TemplateError as
    PromptTemplate.from_spec does.
    """
    try:
        spec = parse_spec({field.name: value for field, value in message.ListFields()})
    except SpecError as error:
        said = error.message.partition(": ")[2]
        raise InvalidRequestError(f"prompt_template is not valid: {said}") from None
    return PromptTemplate.from_spec(spec, folder)
