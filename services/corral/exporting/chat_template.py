"""A checkpoint's prompt template in the forms that other programs render: Jinja, and Ollama's.

What they render is what the checkpoint was trained on; a test renders both. Knows nothing of files.
"""

from __future__ import annotations

import json

from corral.data.alpaca import AlpacaTexts
from corral.data.templates import PromptTemplate

# Alpaca's blocks as a chat template. A chat has no "input" beside its messages: only the preamble
# for rows without one can be asked for.
_ALPACA = """\
{{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else none -%}}
{{{{- {preamble} -}}}}
{{%- if system is not none -%}}{{{{- '\\n\\n' + system -}}}}{{%- endif -%}}
{{%- for message in messages -%}}
{{%- if message['role'] == 'user' -%}}
{{{{- {instruction} + message['content'] + {response} -}}}}
{{%- elif message['role'] == 'assistant' -%}}
{{{{- message['content'] + {end} -}}}}
{{%- endif -%}}
{{%- endfor -%}}
"""


def as_jinja(template: PromptTemplate, end_of_text: str) -> str:
    """The template as Jinja over `messages` and `add_generation_prompt`.

    `end_of_text` is the tokenizer's end token, which answers end in where the template names none.
    """
    if template.texts is None:
        assert template.source is not None, "every template but alpaca has a source"
        return template.source
    return _ALPACA.format(
        preamble=_literal(template.texts.preamble),
        instruction=_literal(template.texts.instruction),
        response=_literal(template.texts.response),
        end=_literal(end_of_text),
    )


def modelfile(template: PromptTemplate, weights_name: str, end_of_text: str) -> str:
    """What `ollama create -f` takes: the weights, how to ask, and what an answer ends in.

    A Jinja template of one's own has no counterpart in Ollama's language: it reads the one in the
    GGUF file, and knows the widespread ones.
    """
    lines = [f"FROM ./{weights_name}"]
    if template.texts is not None:
        lines.append(f"TEMPLATE {_quoted(_ollama_alpaca(template.texts))}")
    elif template.name == "chatml":
        lines.append(f"TEMPLATE {_quoted(_OLLAMA_CHATML)}")
    lines.append(f"PARAMETER stop {json.dumps(template.end_token or end_of_text)}")
    return "\n".join(lines) + "\n"


# Ollama's templates are Go's: .System, .Prompt and .Response of the turn.
_OLLAMA_CHATML = """\
{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


def _ollama_alpaca(texts: AlpacaTexts) -> str:
    system = "{{ if .System }}\n\n{{ .System }}{{ end }}"
    return f"{texts.preamble}{system}{texts.instruction}{{{{ .Prompt }}}}{texts.response}{{{{ .Response }}}}"


def _literal(text: str) -> str:
    """A string of Jinja's: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A string of the Modelfile: three quotes, which the text itself must not end early."""
    return '"""' + text.replace('"""', '""') + '"""'
