"""The programs of docs/python.md, against the fake services."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.builders import state, step
from tests.unit.cli.fake_server import FakeTrainer

from corral.v1 import trainer_pb2

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def _rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with my.jsonl, to be in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.jsonl").write_text('{"instruction": "a", "output": "b"}\n')


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_of_the_page_runs(
    program: str,
    address: str,
    trainer: FakeTrainer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = trainer_pb2.Checkpoint(model="ft:gpt2::job-1:ckpt-step-2", step=2)
    trainer.created_as = {
        "state": "SUCCEEDED",
        "fine_tuned_model": "ft:gpt2::job-1",
        "checkpoints": [checkpoint],
    }
    trainer.events = [
        step(1, 2, 1),
        trainer_pb2.TrainingEvent(number=2, checkpoint=checkpoint),
        state(3, "SUCCEEDED"),
    ]
    source = program.replace("127.0.0.1:7470", address)
    source = source if source.startswith("import") else f"import corral\n{source}"
    code = compile(source, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {}

    found = eval(code, names)
    if inspect.isawaitable(found):
        await found

    assert "It is so." in capsys.readouterr().out
