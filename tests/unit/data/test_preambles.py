from __future__ import annotations

from pathlib import Path

from corral.cli.options import template_fields
from corral.data.preambles import named_preamble, named_preambles

EXAMPLES = Path(__file__).parents[3] / "examples" / "preambles"


def test_the_shipped_preambles_are_those_of_the_examples() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8").strip("\n") for path in EXAMPLES.iterdir()}
    assert {name: named_preamble(name) for name in named_preambles()} == texts


def test_a_name_stands_for_its_text_on_the_command_line() -> None:
    assert template_fields(preamble="pb2e") == {"preamble": named_preamble("pb2e")}
    assert template_fields(preamble="Answer in rhymes.") == {"preamble": "Answer in rhymes."}
    assert named_preamble("no-such") is None
