"""What other programs render of a template is what Corral renders."""

from __future__ import annotations

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from corral.data.conversation import Conversation, Message
from corral.data.templates import PromptTemplate
from corral.exporting.chat_template import as_jinja, modelfile

END = "<|endoftext|>"
QUESTION = (Message("user", 'Say "hi"\nin {{ two }} lines.'),)
CHATS = (
    QUESTION,
    (Message("system", "Be brief."), *QUESTION),
    (*QUESTION, Message("assistant", "hi\nhi"), Message("user", "Once more.")),
)
TEMPLATES = (
    PromptTemplate.alpaca(),
    PromptTemplate.alpaca('A "preamble" of one\'s own.\n{% raw %}'),
    PromptTemplate.chatml(),
)


def _by_jinja(template: PromptTemplate, messages: tuple[Message, ...]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain = [{"role": message.role, "content": message.content} for message in messages]
    source = environment.from_string(as_jinja(template, END))
    return source.render(messages=plain, add_generation_prompt=True)


def _by_corral(template: PromptTemplate, messages: tuple[Message, ...]) -> str:
    segments = template.render_prompt(Conversation(messages))
    # The end tokens behind earlier answers are the tokenizer's to add, where no template writes them.
    end = END if template.texts else ""
    return "".join(segment.text + (end if segment.answer else "") for segment in segments)


@pytest.mark.parametrize("template", TEMPLATES, ids=("alpaca", "own preamble", "chatml"))
@pytest.mark.parametrize("messages", CHATS, ids=("question", "system", "turns"))
def test_jinja_renders_the_prompt_that_was_trained(
    template: PromptTemplate, messages: tuple[Message, ...]
) -> None:
    assert _by_jinja(template, messages) == _by_corral(template, messages)


def test_a_modelfile_asks_and_stops_as_trained() -> None:
    text = modelfile(PromptTemplate.alpaca("Howdy."), "model.gguf", END)
    assert text.startswith("FROM ./model.gguf\n")
    assert "Howdy.{{ if .System }}" in text
    assert "### Instruction:\n{{ .Prompt }}\n\n### Response:{{ .Response }}" in text
    assert text.endswith('PARAMETER stop "<|endoftext|>"\n')


def test_a_modelfile_leaves_a_template_of_ones_own_to_the_weights() -> None:
    own = PromptTemplate("jinja", source="{{ messages[0].content }}", end_token="<end>")
    assert "TEMPLATE" not in modelfile(own, "model.gguf", END)
    assert 'PARAMETER stop "<end>"' in modelfile(own, "model.gguf", END)
