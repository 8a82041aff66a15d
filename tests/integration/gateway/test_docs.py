"""The code of docs/openai.md does what it says, on a tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.running_corral import Up
from tests.tiny_models import tiny_gpt2

pytest.importorskip("openai", reason="needs the openai package (pip install openai)")

pytestmark = pytest.mark.torch

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "openai.md"


def test_the_guide_runs_as_it_is_written(corral: Up, tmp_path: Path) -> None:
    rows = tmp_path / "my.jsonl"
    row = {"instruction": "Say a", "output": "a"}
    rows.write_text("".join(json.dumps({**row, "input": str(n)}) + "\n" for n in range(20)))
    code = "\n".join(
        re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    )
    # Another address, another model, another file, and less patience; the rest is the guide's.
    for written, ours in (
        ("http://127.0.0.1:7472", corral.status["gateway"]),
        ('"gpt2"', repr(str(tiny_gpt2(tmp_path / "tiny")))),
        ('"my.jsonl"', repr(str(rows))),
        ("sleep(5)", "sleep(0.1)"),
    ):
        assert code.count(written) == 1, written
        code = code.replace(written, ours)
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)

    assert names["file"].status == "processed"
    assert names["job"].status == "succeeded"
    assert names["answer"].choices[0].message.content is not None
