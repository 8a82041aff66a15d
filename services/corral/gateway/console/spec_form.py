"""Form fields made from TrainingSpec, so that no name, default, bound or description is written twice.

What is left empty is not given: the server fills in its default. Knows nothing of what a form is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from nicegui import ui
from nicegui.elements.mixins.value_element import ValueElement
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from corral.gateway.console.elements import box, text
from corral.spec import TrainingSpec

_TITLES = {
    "lr_scheduler": "Learning rate schedule",
    "max_grad_norm": "Gradient clipping",
    "fsdp": "FSDP",
    "fsdp_wrap": "FSDP layer class",
    "gpu": "GPU",
    "backend": "Where it runs",
    "compile": "torch.compile",
}
_LONG_TEXTS = ("preamble", "template_source", "stop")


@dataclass(frozen=True)
class Kind:
    """What a field's values are."""

    type: type
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


def kind_of(field: FieldInfo) -> Kind:
    """A field's type without None, its choices, and its bounds."""
    annotation, metadata = _bare(field.annotation, list(field.metadata))
    if get_origin(annotation) is Literal:
        return Kind(str, tuple(map(str, get_args(annotation))))
    return Kind(
        annotation if isinstance(annotation, type) else str,
        least=_bound(metadata, "ge", "gt"),
        most=_bound(metadata, "le", "lt"),
    )


def _bare(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *further = get_args(annotation)
        # A FieldInfo holds its constraints one level deeper.
        flat = [part for one in further for part in getattr(one, "metadata", [one])]
        return _bare(inner, [*metadata, *flat])
    if origin in (Union, UnionType):
        [inner] = [part for part in get_args(annotation) if part is not NoneType]
        return _bare(inner, metadata)
    return annotation, metadata


def _bound(metadata: Sequence[Any], *names: str) -> float | None:
    found = [getattr(one, name) for one in metadata for name in names if hasattr(one, name)]
    return float(found[0]) if found else None


class SpecForm:
    """Fields of a model of settings, and what was filled in."""

    def __init__(
        self,
        bases: Sequence[str] = (),
        filled: Mapping[str, Any] | None = None,
        model: type[BaseModel] = TrainingSpec,
    ) -> None:
        self._bases = list(bases)
        self._filled = dict(filled or {})
        self._fields = model.model_fields
        self._inputs: dict[str, ValueElement[Any]] = {}
        self._changed: list[Callable[[], None]] = []

    def on_change(self, handler: Callable[[], None]) -> None:
        """Call this after each change."""
        self._changed.append(handler)

    def given(self) -> dict[str, Any]:
        """The fields that were filled in with something other than their defaults."""
        found = {name: self._value(name, element) for name, element in self._inputs.items()}
        return {name: value for name, value in found.items() if value is not None}

    def fill(self, values: Mapping[str, Any]) -> None:
        """Set fields that are in the form to other values."""
        for name, value in values.items():
            if name in self._inputs:
                self._inputs[name].set_value(value)

    def add(self, name: str) -> None:
        """A labelled field with its description, in the element that is open."""
        field, kind = self._fields[name], kind_of(self._fields[name])
        element_id = f"field-{name}"
        with box(f"field {'wide' if name in _LONG_TEXTS else ''}") as made:
            if kind.type is bool:
                with box("switch-row"):
                    text(title(name), tag="span").style("font-weight: 560")
                    element: ValueElement[Any] = ui.switch(value=self._start(name) or False)
                    element.props["aria-label"] = title(name)
            else:
                label = text(title(name), tag="label")
                label.props["for"] = element_id
                element = self._input(name, field, kind)
                element.props["for"] = element_id
                element.props["aria-describedby"] = f"{element_id}-hint"
            hint = text(field.description or "", "hint")
            hint.props["id"] = f"{element_id}-hint"
        element.on_value_change(self._tell)
        self._inputs[name] = element
        made.props["data-field"] = name

    def _input(self, name: str, field: FieldInfo, kind: Kind) -> ValueElement[Any]:
        default = field.default
        shown = (
            "not given"
            if default is None or default == ()
            else f"{default:g}"
            if isinstance(default, float)
            else str(default)
        )
        start = self._filled.get(name)
        if name == "model":
            return _model_select(self._bases, start or default)
        if kind.choices:
            options = {choice: choice for choice in kind.choices}
            if default is None:
                options = {"": "not given"} | options
            return _plain(ui.select(options, value=start if start is not None else default or ""))
        if kind.type in (int, float):
            number = ui.number(value=start, min=kind.least, max=kind.most, placeholder=shown)
            number.props("step=1" if kind.type is int else "step=any")
            return _plain(number)
        if name in _LONG_TEXTS:
            return _plain(ui.textarea(value=start or "", placeholder=shown).props("autogrow"))
        return _plain(ui.input(value=start or "", placeholder=shown))

    def _start(self, name: str) -> Any:
        return self._filled.get(name, self._fields[name].default)

    def _value(self, name: str, element: ValueElement[Any]) -> Any:
        """What to send, or None for nothing."""
        value, field, kind = element.value, self._fields[name], kind_of(self._fields[name])
        if value is None or value == "" or value == field.default:
            return None
        return int(value) if kind.type is int and float(value).is_integer() else value

    def _tell(self) -> None:
        for handler in self._changed:
            handler()


def title(name: str) -> str:
    """A field's name as words."""
    return _TITLES.get(name) or name.replace("_", " ").replace("lora", "LoRA").capitalize().replace(
        "Lora", "LoRA"
    )


def _model_select(bases: list[str], start: str) -> ValueElement[Any]:
    names = list(dict.fromkeys([*bases, start]))
    select = ui.select(names, value=start, with_input=True, new_value_mode="add-unique")
    return _plain(select)


def _plain(element: Any) -> ValueElement[Any]:
    made: ValueElement[Any] = element.props("outlined dense hide-bottom-space")
    return made
