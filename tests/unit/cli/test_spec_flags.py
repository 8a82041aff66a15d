from __future__ import annotations

from typing import Any

import pytest
import typer

from corral.cli.main import app, run
from corral.cli.spec_flags import flag_name, given, with_spec_flags
from corral.spec import TrainingSpec


def flags_of_train() -> dict[str, Any]:
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    return {option: parameter for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("field", [n for n in TrainingSpec.model_fields if n != "template_source"])
def test_every_field_of_the_spec_has_its_flag_with_its_help_and_default(field: str) -> None:
    flag = flags_of_train()[flag_name(field)]
    info = TrainingSpec.model_fields[field]

    assert flag.default is None
    assert info.description in flag.help
    if info.default is not None:
        assert f"Default: {info.default}." in flag.help


def test_a_templates_text_comes_by_the_flag_that_names_its_file() -> None:
    assert "--template-source" not in flags_of_train()
    assert ".jinja" in flags_of_train()["--template"].help


def test_what_is_on_by_default_can_be_switched_off() -> None:
    seen: dict[str, Any] = {}
    program = typer.Typer()

    @program.command()
    @with_spec_flags
    def command(**fields: Any) -> None:
        seen.update(given(fields))

    assert run(["--no-packing"], program) == 0
    assert seen == {"packing": False}


def test_flags_arrive_with_the_type_of_their_field_and_absent_ones_do_not() -> None:
    seen: dict[str, Any] = {}
    program = typer.Typer()

    @program.command()
    @with_spec_flags
    def command(**fields: Any) -> None:
        seen.update(given(fields))

    code = run(
        ["--epochs", "2", "--learning-rate", "1e-4", "--lr-scheduler", "linear", "--suffix", "x"],
        program,
    )

    assert code == 0
    assert seen == {"epochs": 2, "learning_rate": 1e-4, "lr_scheduler": "linear", "suffix": "x"}
