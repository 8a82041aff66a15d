"""The same thing without the console: as a command, as Python, and with curl.

Pure functions from values to text. Knows nothing of elements.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from corral.cli.spec_flags import flag_name
from corral.spec import TrainingSpec
from corral.v1 import trainer_pb2

# Fields with a place of their own in OpenAI's API.
_OPENAI_FIELDS = ("model", "suffix", "seed")
_SAMPLING_OF_OPENAI = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
)


def changed_fields(spec: trainer_pb2.TrainingSpec) -> dict[str, Any]:
    """The fields of a completed spec that differ from their defaults, and the model."""
    defaults = {name: field.default for name, field in TrainingSpec.model_fields.items()}
    return {
        field.name: value
        for field, value in spec.ListFields()
        if field.name == "model" or value != defaults.get(field.name)
    }


def training(filename: str, fields: Mapping[str, Any], api: str) -> dict[str, str]:
    """How a job with these fields of a spec is created. `api` ends with /v1."""
    return {
        "Command": _train_command(filename, fields),
        "Python": _train_python(filename, fields, api),
        "curl": _train_curl(filename, fields, api),
    }


def _train_command(filename: str, fields: Mapping[str, Any]) -> str:
    parts = [f"corral train {shlex.quote(filename)}"]
    for name, value in fields.items():
        if name == "template_source":
            continue
        is_file = name == "template" and value == "jinja"
        parts.append(_flag(flag_name(name), "TEMPLATE.jinja" if is_file else value))
    return " \\\n  ".join(parts)


def _openai_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What OpenAI's API has a name for, and all else."""
    known = {name: fields[name] for name in _OPENAI_FIELDS if name in fields}
    if "epochs" in fields:
        hyperparameters = {"n_epochs": fields["epochs"]}
        known["method"] = {
            "type": "supervised",
            "supervised": {"hyperparameters": hyperparameters},
        }
    own = {k: v for k, v in fields.items() if k not in (*_OPENAI_FIELDS, "epochs")}
    return known, own


def _train_python(filename: str, fields: Mapping[str, Any], api: str) -> str:
    known, own = _openai_fields(fields)
    arguments = [f"{name}={value!r}," for name, value in known.items()]
    if own:
        arguments.append(f"extra_body={own!r},")
    lines = "\n    ".join(arguments)
    return (
        f"{_python_client(api)}\n"
        f'rows = client.files.create(file=open({filename!r}, "rb"), purpose="fine-tune")\n'
        f"job = client.fine_tuning.jobs.create(\n    training_file=rows.id,\n    {lines}\n)\n"
        "print(job.id)"
    )


def _train_curl(filename: str, fields: Mapping[str, Any], api: str) -> str:
    known, own = _openai_fields(fields)
    body = json.dumps({"training_file": "FILE_ID", **known, **own}, indent=2, ensure_ascii=False)
    upload = shlex.quote(f"file=@{filename}")
    return (
        f"# answers with the id that takes the place of FILE_ID\n"
        f"curl {api}/files -F purpose=fine-tune -F {upload}\n\n"
        f"curl {api}/fine_tuning/jobs -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def chatting(
    models: list[str], messages: list[dict[str, str]], sampling: Mapping[str, Any], api: str
) -> dict[str, str]:
    """How the same question is asked, with these sampling options. `api` ends with /v1."""
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "Hello")
    return {
        "Command": _chat_command(models, question, sampling),
        "Python": _chat_python(models[0], messages, sampling, api),
        "curl": _chat_curl(models[0], messages, sampling, api),
    }


def _chat_command(models: list[str], question: str, sampling: Mapping[str, Any]) -> str:
    parts = [f"echo {shlex.quote(question)} | corral chat {' '.join(map(shlex.quote, models))}"]
    for name, value in sampling.items():
        for one in value if isinstance(value, list) else [value]:
            parts.append(_flag(f"--{name.replace('_', '-')}", one))
    return " \\\n  ".join(parts)


def _chat_fields(sampling: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {name: sampling[name] for name in _SAMPLING_OF_OPENAI if name in sampling}
    if "max_tokens" in sampling:
        known["max_completion_tokens"] = sampling["max_tokens"]
    own = {k: v for k, v in sampling.items() if k not in (*_SAMPLING_OF_OPENAI, "max_tokens")}
    return known, own


def _chat_python(
    model: str, messages: list[dict[str, str]], sampling: Mapping[str, Any], api: str
) -> str:
    known, own = _chat_fields(sampling)
    arguments = [f"model={model!r},", f"messages={messages!r},"]
    arguments += [f"{name}={value!r}," for name, value in known.items()]
    if own:
        arguments.append(f"extra_body={own!r},")
    lines = "\n    ".join(arguments)
    return (
        f"{_python_client(api)}\nanswer = client.chat.completions.create(\n    {lines}\n)\n"
        "print(answer.choices[0].message.content)"
    )


def _chat_curl(
    model: str, messages: list[dict[str, str]], sampling: Mapping[str, Any], api: str
) -> str:
    known, own = _chat_fields(sampling)
    body = {"model": model, "messages": messages, **known, **own}
    text = json.dumps(body, indent=2, ensure_ascii=False)
    return f"curl {api}/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(text)}"


def exporting(model: str) -> dict[str, str]:
    """How a model's files are fetched."""
    name = shlex.quote(model)
    return {
        "Hugging Face folder": f"corral models export {name} FOLDER",
        "GGUF, for llama.cpp and Ollama": f"corral models export {name} FOLDER --to gguf",
    }


def _python_client(api: str) -> str:
    return f'from openai import OpenAI\n\nclient = OpenAI(base_url="{api}", api_key="none")'


def _flag(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    return f"{flag} {shlex.quote(_word(value))}"


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
