"""The flags of `corral train`, made from TrainingSpec, so that no name, default or help is written
twice.

A flag that is not given is None and is not sent: the server fills in its default. Knows nothing of
what the command does with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from corral.cli.flags import default_of
from corral.spec import TrainingSpec

# A name or a file, a text or a file: more than the spec's own type says.
_TAKES_FILE = {
    "template": "NAME|FILE",
    "preamble": "TEXT|FILE",
}
_TEMPLATE_FILE = "Instead of jinja name the file, which ends in .jinja."
# Fields that come with another's flag: --template takes the file.
_WITHOUT_FLAG = ("template_source",)

_PANELS = {
    "Tuning": ("tuning", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets"),
    "Schedule": (
        "epochs",
        "max_steps",
        "learning_rate",
        "learning_rate_multiplier",
        "lr_scheduler",
        "warmup_ratio",
        "weight_decay",
        "max_grad_norm",
        "seed",
    ),
    "Batches and processes": (
        "batch_size",
        "gradient_accumulation_steps",
        "max_length",
        "packing",
        "precision",
        "processes",
        "nodes",
        "fsdp",
        "fsdp_wrap",
    ),
    "Evaluation": (
        "eval_split",
        "eval_every",
        "eval_prompts",
        "eval_max_tokens",
        "early_stopping",
        "early_stopping_patience",
    ),
    "Where it runs": ("backend", "gpu", "max_cost", "timeout_hours", "keep_volume"),
}
# Flags that are not called like their field.
_FLAG_NAMES = {"backend": "--on"}


def with_spec_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with a flag for each field of TrainingSpec in place of its `**fields`.

    template_source has none: its text is in the file that --template names. Nor have those that the
    command has a parameter of its own for.
    """
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    flags = [
        _parameter(name, field)
        for name, field in TrainingSpec.model_fields.items()
        if name not in (*_WITHOUT_FLAG, *(parameter.name for parameter in own))
    ]
    # Typer reads a command's parameters from its signature.
    vars(command)["__signature__"] = inspect.Signature(
        [
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
            *flags,
        ]
    )
    return command


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields whose flags were given."""
    return {name: value for name, value in fields.items() if value is not None}


def flag_name(field: str) -> str:
    """`--learning-rate` for `learning_rate`, `--on` for `backend`."""
    return _FLAG_NAMES.get(field) or "--" + field.replace("_", "-")


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    value_type = str if name in _TAKES_FILE else _value_type(field.annotation)
    flag = flag_name(name)
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if value_type is bool else flag,
        help=_help(name, field),
        metavar=_TAKES_FILE.get(name),
        show_default=False,
        rich_help_panel=next((p for p, names in _PANELS.items() if name in names), "Training"),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[value_type | None, option],
    )


def _help(name: str, field: FieldInfo) -> str:
    parts = [field.description or ""]
    if get_origin(field.annotation) is Literal:
        parts.append(f"One of {', '.join(get_args(field.annotation))}.")
    if name == "template":
        parts.append(_TEMPLATE_FILE)
    parts.append(default_of(TrainingSpec, name))
    return " ".join(filter(None, parts))


def _value_type(annotation: Any) -> Any:
    """The type of a flag's value: the field's without its bounds and without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _value_type(get_args(annotation)[0])
    if origin in (Union, UnionType):
        [value] = [part for part in get_args(annotation) if part is not NoneType]
        return _value_type(value)
    # What is allowed of these, the spec says better than the command line's parser.
    return str if origin is Literal else annotation
