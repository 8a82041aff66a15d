"""The report: all problems, the right counts, and what would be trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data_builders import ROW, gpt2_like, jsonl, stream

from corral.data.checking import Report, check_for_training, check_structure
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer, fit_tokenizer
from corral.errors import DatasetError

REAL = Path(__file__).parents[4] / "shared/data/alpaca_en_demo.json"
ALPACA = PromptTemplate.alpaca("P.")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FittedTokenizer:
    return fit_tokenizer(gpt2_like(tmp_path_factory.mktemp("gpt2")), ALPACA)


def rows(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"Question {n}?", "output": f"Answer {n}."} for n in range(count)]


def test_good_rows_are_ok() -> None:
    report = check_structure(jsonl(*rows(3)))
    assert (report.rows, report.usable_rows, report.format) == (3, 3, "alpaca")
    assert report.ok
    assert report.problems == ()
    report.raise_if_unusable()


def test_all_problems_are_reported_not_just_the_first() -> None:
    report = check_structure(jsonl(ROW, {"instruction": "a"}, {"instruction": "", "output": "b"}))
    assert [(p.row, p.line, p.field) for p in report.problems] == [
        (1, 2, "output"),
        (2, 3, "instruction"),
    ]
    assert (report.usable_rows, report.error_count, report.ok) == (1, 2, False)


def test_the_error_names_the_first_problems_and_counts_the_others() -> None:
    report = check_structure(jsonl(*({"instruction": "a"} for _ in range(5))))
    with pytest.raises(DatasetError, match=r"line 1 \(row 0\), output: is missing\..* 2 more"):
        report.raise_if_unusable()


def test_garbage_behind_an_array_counts_as_an_error_and_not_as_a_row() -> None:
    report = check_structure(stream('[{"prompt": "a", "completion": "b"}] x'))
    assert (report.rows, report.usable_rows, report.error_count) == (1, 1, 1)
    assert not report.ok


def test_an_array_that_ends_before_its_first_row_is_one_problem() -> None:
    report = check_structure(stream("["))
    assert (report.rows, [p.code for p in report.problems]) == (0, ["json"])


@pytest.mark.parametrize("content", ["", "[]", "\n\n"])
def test_an_empty_file_is_an_error(content: str) -> None:
    report = check_structure(stream(content))
    assert [p.code for p in report.problems] == ["no_rows"]
    assert not report.ok


def test_a_duplicate_is_a_warning_that_names_the_first() -> None:
    report = check_structure(jsonl(ROW, *rows(1), ROW, {**ROW, "input": ""}))
    assert [(p.row, p.code, p.message) for p in report.problems] == [
        (2, "duplicate", "is the same as row 0."),
        (3, "duplicate", "is the same as row 0."),
    ]
    assert report.ok


def test_rows_of_several_formats_are_mixed() -> None:
    assert check_structure(jsonl(ROW, {"prompt": "a", "completion": "b"})).format == "mixed"


def test_warnings_never_hide_an_error() -> None:
    report = check_structure(jsonl(*[ROW] * 300, {"instruction": "a"}))
    assert len(report.problems) == 100
    assert report.problem_count == 300
    assert [p.row for p in report.problems if p.severity == "error"] == [300]


def test_a_key_that_no_row_should_have_is_shown_once_and_counted() -> None:
    report = check_structure(jsonl(*({**row, "id": 1} for row in rows(5))))
    assert [(p.row, p.field) for p in report.problems] == [(0, "id")]
    assert report.problem_count == 5


def test_tokens_are_counted(tokenizer: FittedTokenizer) -> None:
    report = check_for_training(jsonl(*rows(10)), ALPACA, tokenizer, 1000)
    tokens = report.tokens
    assert tokens is not None
    assert tokens.total == pytest.approx(tokens.mean * 10)
    assert 0 < tokens.trained < tokens.total
    assert tokens.p50 <= tokens.p90 <= tokens.max
    assert tokens.too_long == 0


def test_percentiles_are_of_the_rows_lengths(tokenizer: FittedTokenizer) -> None:
    content = [{"instruction": "Q", "output": "é" * n} for n in range(1, 11)]
    report = check_for_training(jsonl(*content), ALPACA, tokenizer, 1000)
    tokens = report.tokens
    assert tokens is not None
    # Each further character is two byte tokens here.
    assert (tokens.p90 - tokens.p50, tokens.max - tokens.p90) == (8, 2)


def test_an_answer_cut_away_is_an_error_and_one_cut_short_a_warning(
    tokenizer: FittedTokenizer,
) -> None:
    content = jsonl(
        {"instruction": "Q", "output": "A"},
        {"instruction": "Q", "output": "long answer " * 50},
        {"instruction": "long question " * 50, "output": "A"},
    )
    report = check_for_training(content, ALPACA, tokenizer, 100)
    assert [(p.row, p.code, p.severity) for p in report.problems] == [
        (1, "cut", "warning"),
        (2, "cut_away", "error"),
    ]
    assert report.tokens is not None
    assert report.tokens.too_long == 2
    assert report.usable_rows == 2


def test_the_hint_names_what_a_check_needs_to_find_the_same(tokenizer: FittedTokenizer) -> None:
    content = jsonl({"instruction": "long question " * 50, "output": "A"})
    too_long = check_for_training(content, ALPACA, tokenizer, 100)
    with pytest.raises(DatasetError) as caught:
        too_long.raise_if_unusable()
    assert "FILE --model MODEL --max-length 100 --template TEMPLATE`" in caught.value.hint

    with pytest.raises(DatasetError) as caught:
        check_structure(jsonl({})).raise_if_unusable()
    assert "`corral data check FILE`" in caught.value.hint


def test_what_the_template_refuses_is_a_problem_of_its_row(tokenizer: FittedTokenizer) -> None:
    source = "{{ raise_exception('no system') if messages[0].role == 'system' }}" + (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    template = PromptTemplate("jinja", source=source)
    with_system = {"messages": [{"role": r, "content": r} for r in ("system", "user", "assistant")]}
    report = check_for_training(jsonl(ROW, with_system), template, tokenizer, 100)
    assert [(p.row, p.code) for p in report.problems] == [(1, "template")]
    assert "no system" in report.problems[0].message


def test_examples_show_what_is_trained(tokenizer: FittedTokenizer) -> None:
    report = check_for_training(jsonl({}, *rows(9)), ALPACA, tokenizer, 1000)
    assert [example.row for example in report.examples] == [1, 2, 3]
    pieces = report.examples[0].pieces
    assert [(piece.text, piece.trained) for piece in pieces] == [
        ("P.\n\n### Instruction:\nQuestion 0?\n\n### Response:", False),
        ("Answer 0.<|endoftext|>", True),
    ]


def test_a_report_survives_json(tokenizer: FittedTokenizer) -> None:
    report = check_for_training(jsonl({}, ROW), ALPACA, tokenizer, 1000)
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is not there: no real rows to check")
def test_a_thousand_real_rows_are_checked(tokenizer: FittedTokenizer) -> None:
    with REAL.open("rb") as file:
        report = check_for_training(file, ALPACA, tokenizer, 8192)
    assert (report.rows, report.usable_rows, report.format) == (999, 999, "alpaca")
    assert {p.code for p in report.problems} == {"duplicate"}
