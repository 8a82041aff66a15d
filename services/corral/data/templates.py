"""Prompt templates: from a conversation to pieces of text, of which the answers are trained.

Four by name: `alpaca` (see corral.data.alpaca, with an exchangeable preamble), `chatml`, `model` (the base model's own) and `jinja` (the user's). All
that a template needs to render is in its manifest, so a checkpoint renders in chat what it was
trained on. Knows nothing of tokens beyond their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from corral.data.alpaca import AlpacaTexts
from corral.data.chat_template import ChatTemplate
from corral.data.conversation import Conversation, Message
from corral.data.model_files import ModelTexts, read_model_texts
from corral.data.segments import Segment
from corral.errors import TemplateError
from corral.spec import TrainingSpec

__all__ = ["PromptTemplate", "Segment", "TemplateName"]

TemplateName = Literal["alpaca", "chatml", "model", "jinja"]

_CHATML_START = "<|im_start|>"
_CHATML_END = "<|im_end|>"
_CHATML_SOURCE = """\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Stands for the answer that a prompt asks for; it is cut off again.
_ANSWER_TO_COME = Message("assistant", "…")


@dataclass(frozen=True)
class PromptTemplate:
    """A template, complete: renders without any file."""

    name: TemplateName
    # For alpaca alone.
    texts: AlpacaTexts | None = None
    # Jinja, for all others.
    source: str | None = None
    # The base model's special tokens by their names in Jinja ("bos_token"), sorted.
    tokens: tuple[tuple[str, str], ...] = ()
    # What answers end in; None is the tokenizer's own end of text.
    end_token: str | None = None
    # What the tokenizer must know as single tokens.
    added_tokens: tuple[str, ...] = ()

    @classmethod
    def from_spec(cls, spec: TrainingSpec, base_folder: Path | None) -> PromptTemplate:
        """The template that a spec asks for. `model` needs the base model's folder; `jinja` takes
        the special tokens' names from it.

        Raises TemplateError where the base model has no template or the source does not render.
        """
        if spec.template == "alpaca":
            return cls.alpaca(spec.preamble)
        if spec.template == "chatml":
            return cls.chatml()
        texts = read_model_texts(base_folder) if base_folder is not None else ModelTexts()
        source = spec.template_source if spec.template == "jinja" else texts.chat_template
        if source is None:
            raise TemplateError(
                f"{spec.model} has no chat template of its own.",
                "Take --template alpaca or chatml.",
            )
        return cls(spec.template, source=source, tokens=texts.named_tokens)._finding_end(texts)

    @classmethod
    def of_base(cls, base_folder: Path) -> PromptTemplate:
        """How to talk to a base model that was not trained here: in its own chat template, or in
        alpaca's where it has none.
        """
        texts = read_model_texts(base_folder)
        if texts.chat_template is None:
            return cls.alpaca()
        template = cls("model", source=texts.chat_template, tokens=texts.named_tokens)
        return template._finding_end(texts)

    @classmethod
    def alpaca(cls, preamble: str | None = None) -> PromptTemplate:
        """Stanford Alpaca's, with a preamble of one's own or with its two."""
        return cls("alpaca", texts=AlpacaTexts.with_preamble(preamble))

    @classmethod
    def chatml(cls) -> PromptTemplate:
        """OpenAI's ChatML, without a default system message."""
        added = (_CHATML_START, _CHATML_END)
        return cls("chatml", source=_CHATML_SOURCE, end_token=_CHATML_END, added_tokens=added)

    def _finding_end(self, texts: ModelTexts) -> Self:
        """With the special token that the template itself writes behind answers, if it does."""
        behind = self._chat.text_after_answer().lstrip()
        found = [token for token in texts.special_tokens if behind.startswith(token)]
        return replace(self, end_token=max(found, key=len, default=None))

    # ---------------------------------------------------------------- rendering

    def render_training(self, conversation: Conversation) -> list[Segment]:
        """The conversation up to its last answer; answers, and only they, are trained.

        The end tokens are not in it: the tokenizer adds them behind each answer. Raises
        TemplateError where the template has no place for a message.
        """
        messages = conversation.messages
        if not any(message.role == "assistant" for message in messages):
            raise TemplateError("There is no answer in the conversation.")
        if self.texts is not None:
            return self.texts.segments(messages)
        return self._chat.segments(messages)

    def render_prompt(self, conversation: Conversation) -> list[Segment]:
        """What `render_training` renders before the answer to the last message."""
        return self.render_training(Conversation((*conversation.messages, _ANSWER_TO_COME)))[:-1]

    @cached_property
    def _chat(self) -> ChatTemplate:
        assert self.source is not None, "only alpaca has no source"
        return ChatTemplate(self.name, self.source, self.tokens, self.end_token)

    # ---------------------------------------------------------------- in a checkpoint

    def to_manifest(self) -> dict[str, Any]:
        """Everything that rendering needs, as JSON values."""
        return {
            "name": self.name,
            "texts": self.texts and asdict(self.texts),
            "source": self.source,
            "tokens": dict(self.tokens),
            "end_token": self.end_token,
            "added_tokens": list(self.added_tokens),
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> PromptTemplate:
        """The same template again. Raises TemplateError where the manifest's part is not one."""
        try:
            template = cls(
                name=manifest["name"],
                texts=AlpacaTexts(**manifest["texts"]) if manifest["texts"] else None,
                source=manifest["source"],
                tokens=tuple(sorted(manifest["tokens"].items())),
                end_token=manifest["end_token"],
                added_tokens=tuple(manifest["added_tokens"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise TemplateError(
                f"The manifest's prompt template is incomplete: {error}."
            ) from error
        if template.name not in get_args(TemplateName):
            raise TemplateError(f"There is no prompt template {template.name!r:.80}.")
        needed = template.texts if template.name == "alpaca" else template.source
        if needed is None:
            raise TemplateError(f"The manifest's prompt template {template.name} has no text.")
        return template

    @property
    def sha256(self) -> str:
        """Hex digest of the manifest's part: the same exactly when the rendering is."""
        text = json.dumps(self.to_manifest(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
