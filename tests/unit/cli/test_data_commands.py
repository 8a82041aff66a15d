"""`corral data`: results on stdout, chatter on stderr, an exit code that scripts can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.data_builders import ROW, gpt2_like, jsonl
from tests.unit.cli.screen import Screen

from corral.cli.main import run
from corral.cli.options import read_text_or_file, template_fields
from corral.errors import InvalidRequestError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = gpt2_like(tmp_path / "model")
    config = {"architectures": ["GPT2LMHeadModel"], "n_positions": 128}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(jsonl(*rows).getvalue())
    return path


def test_a_good_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(write(tmp_path, ROW))]) == 0
    out, err = capsys.readouterr()
    assert "1, 1 usable" in out
    assert "alpaca" in out
    assert "Only the structure" in err


def test_problems_have_lines_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ROW, ROW, {"instruction": "a"})
    assert run(["data", "check", str(path)]) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if line.count(": ") > 1]
    assert lines == [
        "error: line 3 (row 2), output: is missing.",
        "warning: line 2 (row 1): is the same as row 0.",
    ]


def test_with_a_model_trained_tokens_are_shown(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ROW)
    preamble = tmp_path / "preamble.txt"
    preamble.write_text("Praise.\n")
    command = ["data", "check", str(path), "--model", str(model), "--preamble", str(preamble)]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert (
        "Praise.\n\n### Instruction:\nWho are you?\n\n### Response:«A ranch hand.<|endoftext|>»"
        in out
    )
    assert "<|pad|>" in err
    assert "at most 128 tokens" in err


def test_json_is_the_whole_report(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ROW)
    command = ["data", "check", str(path), "--model", str(model), "--template", "chatml", "--json"]
    assert run(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tokens"]["max_length"] == 128
    assert [p["trained"] for p in report["examples"][0]["pieces"]] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "can't be read"),
        (["rows.jsonl", "--template", "nonsense"], "template: 'nonsense'"),
        (["rows.jsonl", "--template", "nowhere.jinja"], "no file nowhere.jinja"),
        (["rows.jsonl", "--preamble", "x", "--template", "chatml"], "preamble"),
        (["rows.jsonl", "--model", "./nowhere"], "no folder"),
    ],
)
def test_mistakes_are_one_readable_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path, ROW)
    monkeypatch.chdir(tmp_path)
    assert run(["data", "check", *arguments]) in {2, 3}
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err


def test_convert_writes_jsonl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.jsonl"
    assert (
        run(["data", "convert", str(write(tmp_path, {**ROW, "input": "Now."})), str(target)]) == 0
    )
    assert json.loads(target.read_text()) == {
        "instruction": "Who are you?\n\nNow.",
        "output": "A ranch hand.",
    }
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"1 row written to {target}.\n")


def test_convert_leaves_the_target_alone_when_it_fails(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, {"instruction": "a"})
    before = path.read_bytes()
    assert run(["data", "convert", str(path), str(path)]) == 2
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_convert_writes_to_stdout_where_no_target_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ([], ["-"]):
        assert run(["data", "convert", str(write(tmp_path, ROW)), *target]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == ROW
        assert err == "1 row written to stdout.\n"
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_convert_writes_into_what_is_no_regular_file_and_leaves_it_there(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Also for writing: opening one end alone waits for the other.
    reader = os.open(pipe, os.O_RDWR)
    try:
        assert run(["data", "convert", str(write(tmp_path, ROW)), str(pipe)]) == 0
        assert pipe.is_fifo()
        os.set_blocking(reader, False)
        assert json.loads(os.read(reader, 4096)) == ROW
    finally:
        os.close(reader)


def test_convert_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real.name)
    assert run(["data", "convert", str(write(tmp_path, ROW)), str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(real.read_text()) == ROW


def test_convert_to_the_name_of_a_redirected_stdout_keeps_the_file(tmp_path: Path) -> None:
    program = "from corral.cli.main import main; main()"
    command = [sys.executable, "-c", program, "data", "convert", str(write(tmp_path, ROW))]
    with (tmp_path / "out").open("w+") as file:
        subprocess.run([*command, "/dev/stdout"], stdout=file, check=True)
        file.seek(0)
        assert json.loads(file.read()) == ROW


def test_the_report_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ROW)
    run(["data", "check", str(path)])
    assert capsys.readouterr().out.splitlines()[0].split() == ["file", str(path)]
    run(["data", "check", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["file"] == str(path)


def test_a_row_can_not_command_the_terminal(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, {"instruction": "\x1b]0;title\x07", "output": "b", "\x1b[2J": 1})
    screen = Screen("data", "check", str(path), "--model", str(model))
    screen.wait_for("\\x1b[2J: is not used")
    screen.wait_for("\\x1b]0;title\\x07")
    assert screen.exit_code() == 0


def test_jinja_without_its_file_is_told_how_to_name_it() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        template_fields("jinja")
    assert "--template my.jinja" in caught.value.hint


def test_a_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "preamble.txt"
    file.write_bytes(b"\xef\xbb\xbfFrom a file.\r\n")
    assert read_text_or_file(str(file)) == "From a file."
    assert read_text_or_file("Plain text. " * 100) == "Plain text. " * 100
    with pytest.raises(InvalidRequestError, match="no file"):
        read_text_or_file(str(tmp_path / "other.txt"))


def test_a_jinja_file_is_template_and_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages }}\n")
    assert template_fields(str(file)) == {"template": "jinja", "template_source": "{{ messages }}"}
    assert template_fields("chatml") == {"template": "chatml"}
    assert template_fields(None, "Be brief.") == {"preamble": "Be brief."}
    assert template_fields() == {}
